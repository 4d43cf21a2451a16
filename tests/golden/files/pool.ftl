# The pool
-brand = Bluewater
pool-title = The town's pool
    .label = Show { -brand }
    .accesskey = S
pool-hours = Open from { $from } to { $to }
pool-swimmers = { $count ->
    [one] { $count } swimmer
   *[other] { $count } swimmers
}
pool-about =
    The pool was opened in 1958
    and is still the warmest.
