# The pool
-brand = BLUEWATER
pool-title = THE TOWN'S POOL
    .label = SHOW { -brand }
    .accesskey = S
pool-hours = OPEN FROM { $from } TO { $to }
pool-swimmers = { $count ->
    [one] { $count } SWIMMER
   *[other] { $count } SWIMMERS
}
pool-about =
    THE POOL WAS OPENED IN 1958 AND IS STILL THE WARMEST.
