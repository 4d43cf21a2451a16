"""Where a full stop ends no sentence, though what is after it looks like a beginning: in dates and times, after ordinal numbers and abbreviations.

sentencex divides by rules of its own; this joins what it has divided wrongly. Where it cannot be told, the parts are joined: a piece that is longer than need
be is still translated well, and half a date is not. Reads and writes strings alone.
"""

from __future__ import annotations

import re

from tell.languages import base_language

# Characters of a sentence's end that are looked at: all of a short one, which may be half a one, and of others what an abbreviation or a number needs.
LOOKED_AT, _END = 100, 32
# A sentence that is only "17." or "Nr. 3." is the first half of one.
_STUMP = re.compile(r"\W*(?:\d{1,4}|[A-ZÀ-ÞŁŚŽČŘ])\.\s+")
# One that ends in a short word before a number: "kl. 5", "nr. 3", "p. 12"; and longer words that are abbreviations in some language: of hours, months and the
# parts of books. Those of months are CLDR's.
_ABBREVIATED = re.compile(r"(?<![^\s(-])([^\W\d_][^\s\d.,]{0,11})\.\s+$")
_LONGER = """
plkst godz klok tele telf telef puhelin abschn absch kapitel abbild odst pozn strana rozdz birž cʼhwe c'hwe favr febr févr ghju goue gruod gwen jaan
janv juil jūl jūn lapkr liep mars marts meur mezh márc rugp rugs saus schan sept sett spal szept veebr zercl apr april mart avril dets detz dec dez
груд жовт квіт лист март нояб сент серп трав февр черв верес янв авг окт дек апр июн июл ліп вер жнів снеж студз лют кас чэрв кастр стр табл рис разд
гл тел अक्तू செப் பிப் மார்
"""
_BEFORE_NUMBERS = frozenset(_LONGER.split())
# A number with a full stop, and what makes it a date with what is after it: another such number, or a time.
_NUMBER = re.compile(r"(?<![\d.])\d{1,4}\.\s+$")
_NEXT_NUMBER = re.compile(r"\d{1,2}\.\s?(?:\d|[^\W\d_A-ZÀ-Þ]|$)")
_DAY_AND_MONTH = re.compile(r"(?<![\d.])\d{1,2}\.\s{0,3}\d{1,2}\.\s+$")
_YEAR = re.compile(r"\d{2,4}(?!\d)")
_TIME = re.compile(r"\d{1,2}[:.]\d{2}(?!\d)")
_ORDINAL = re.compile(r"(?<![\d.,])\d{1,3}\.\s+$")
_AFTER_SHORTENED = re.compile(r"\.|\s\d")
_FIRST_WORD = re.compile(r"[^\W\d_]+")
# Months after an ordinal number where they begin with a capital: always in German and its neighbours, and in the others for emphasis or by mistake.
_OF_LANGUAGES = """
de: januar jänner jan februar feber feb märz april apr mai juni jun juli jul august aug september sept sep oktober okt november nov dezember dez
lb: januar jan februar feb mäerz abrëll mee juni juli august aug september sept oktober okt november nov dezember dez
nds: januaar jan februaar feb märz april mai juni juli august september oktover november dezember dez
gsw: januar februar märz april mai juni juli auguscht septämber oktoober novämber dezämber dez
frr: janewoore febrewoore maarts april mei jüüne jüüle august september oktuuber nofember detsember jan feb mar apr aug sep okt nof det jün jül
ksh: jannewa fäbrowa määz aprell mai juuni juuli oujoß septämber oktohber novämber dezämber jan fäb apr sep okt nov dez mäz säp jun jul ouj
wae: jenner hornig märze abrille meije bráčet heiwet öigšte herbštmánet wímánet wintermánet chrištmánet jen hor mär abr mei brá hei öig her wím win
    chr
is: janúar febrúar mars apríl maí júní júlí ágúst september október nóvember desember
fo: januar februar mars apríl mai juni juli august september oktober november desember
no: januar februar mars april mai juni juli august september oktober november desember
nn: januar februar mars april mai juni juli august september oktober november desember
da: januar februar marts april maj juni juli august september oktober november december
fi: tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta marraskuuta joulukuuta
et: jaanuar jaanuaril veebruar veebruaril märts märtsil aprill aprillil mai mail juuni juunil juuli juulil august augustil september septembril
    oktoober oktoobril november novembril detsember detsembril
lv: janvāris janvārī februāris februārī marts martā aprīlis aprīlī maijs maijā jūnijs jūnijā jūlijs jūlijā augusts augustā septembris septembrī
    oktobris oktobrī novembris novembrī decembris decembrī
cs: ledna února března dubna května června července srpna září října listopadu prosince
sk: januára februára marca apríla mája júna júla augusta septembra októbra novembra decembra
sl: januar januarja februar februarja marec marca april aprila maj maja junij junija julij julija avgust avgusta september septembra oktober oktobra
    november novembra december decembra
hr: siječnja veljače ožujka travnja svibnja lipnja srpnja kolovoza rujna listopada studenoga studenog prosinca
bs: januar januara februar februara mart marta april aprila maj maja juni juna juli jula august augusta septembar septembra oktobar oktobra novembar
    novembra decembar decembra
sr: јануар јануара фебруар фебруара март марта април априла мај маја јун јуна јул јула август августа септембар септембра октобар октобра новембар
    новембра децембар децембра januar januara februar februara mart marta april aprila maj maja jun juna jul jula avgust avgusta septembar septembra
    oktobar oktobra novembar novembra decembar decembra
hsb: januara februara měrca apryla meje junija julija awgusta septembra oktobra nowembra decembra
dsb: januara februara měrca apryla maja junija julija awgusta septembra oktobra nowembra decembra
"""
_LINES = _OF_LANGUAGES.replace("\n    ", " ").strip().split("\n")
_MONTHS = {language: frozenset(names.casefold().split()) for language, _, names in (line.partition(":") for line in _LINES)}
# German nouns have capitals too: after an ordinal number only such a word begins a sentence.
_GERMAN = """
aber alle allerdings als also am an auch auf aus außerdem bei bis da dabei dadurch dafür dagegen daher damals damit danach daneben dann daran darauf
daraus darin darüber darum das dass davon davor dazu dem den denn dennoch der deren des deshalb deswegen dies diese dieser dieses doch dort du durch
ein eine einer eines er es etwa für gegen hier ich ihr ihre im in insgesamt ist jedoch jetzt kein keine man manche mit nach nachdem nicht noch nun nur
ob oder ohne schon sei seit seitdem sie sind so sogar somit später trotz trotzdem über um und uns unser unter viele vielleicht vom von vor war waren
warum was weil weiter wenn wer wie wieder wir wird wo zu zudem zuerst zum zunächst zur zuvor zwar zwischen
"""
_OPENERS = frozenset(_GERMAN.split())
# Abbreviations before names and examples that sentencex lacks: of languages for which it has no list, or none of these.
_OF_ABBREVIATIONS = """
ga: tuas m.sh uimh lch lgh
eu: adib jn zk
et: nt vt hr pr lk
cy: e.e parch
se: omd nr
"""
_ABBREVIATIONS = {language: frozenset(words.split()) for language, _, words in (line.partition(":") for line in _OF_ABBREVIATIONS.strip().split("\n"))}
_LAST_WORD = re.compile(r"(?<![^\s(\[„“\"'-])([^\W\d_][^\s\d,]{0,7})\.\s+$")
# After a time of the English clock.
_MERIDIEM = re.compile(r"\b[ap]\.\s?m\.\s+$", re.I)
_DAYS_AND_ZONES = """
monday tuesday wednesday thursday friday saturday sunday gmt utc est edt cst cdt mst mdt pst pdt bst cet cest eastern central pacific
"""
_AFTER_MERIDIEM = frozenset(_DAYS_AND_ZONES.split())
# Scripts in which a full stop only abbreviates, and the Burmese comma.
_NO_FULL_STOP = re.compile(r"[\u0e00-\u0eff\u1200-\u137f]\.\s+$|\u104a\s*$")
# Languages that end no sentence in a number with a full stop.
_NEVER_AFTER_NUMBERS = frozenset({"ko"})


def language_of(tag: str) -> str:
    """The language under the name that is used here and by sentencex. Most tags need no look-up."""
    subtag = tag.partition("-")[0].lower()
    return {"nb": "no", "sh": "sr"}.get(subtag, subtag) if len(subtag) == 2 else base_language(tag)


def goes_on(sentence: str, part: str, language: str) -> bool:
    """Whether `part` belongs to the sentence before it, of whose end `LOOKED_AT` characters are enough. `language` is a BCP 47 tag."""
    end = sentence[-_END:]
    if _STUMP.fullmatch(sentence) or _NO_FULL_STOP.search(end):
        return True
    base = language_of(language)
    if (last := _LAST_WORD.search(end)) and last.group(1).casefold() in _ABBREVIATIONS.get(base, ()):
        return True
    if part[0].isdigit() or part[0] == "§":
        if abbreviated := _ABBREVIATED.search(end):
            word = abbreviated.group(1)
            if len(word) <= 3 or word.casefold() in _BEFORE_NUMBERS:
                return True
        if _NUMBER.search(end) and (_NEXT_NUMBER.match(part) or _TIME.match(part)):
            return True
        if _DAY_AND_MONTH.search(end) and _YEAR.match(part):
            return True
    if base in _NEVER_AFTER_NUMBERS and _NUMBER.search(end):
        return True
    word_match = _FIRST_WORD.match(part)
    word = word_match.group().casefold() if word_match else ""
    if word and _ORDINAL.search(end):
        months = _MONTHS.get(base, frozenset())
        shortened = len(word) > 2 and _AFTER_SHORTENED.match(part, len(word)) and any(month.startswith(word) for month in months)
        return word in months or bool(shortened) or (base == "de" and word not in _OPENERS)
    return bool(base == "en" and word in _AFTER_MERIDIEM and _MERIDIEM.search(end))
