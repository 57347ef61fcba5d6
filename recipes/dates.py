"""Teach a small BART, from new weights, to read dates: "Tues. the 3rd of March, '87" becomes 1987-03-03.

    python recipes/dates.py --output DIR

The phrases are made here: numbers in several orders, English in words and abbreviations, the months and weekdays of
sixteen languages in four scripts, feasts, last days of months, and how people write: without accents, in capitals, with
a word before. Every tenth day of two centuries is held out: no phrase of it is ever trained on. In the end the model
reads phrases of those days, and new phrases of days that it has met in others: 99 % and more of both. OUTPUT has the
model, its card and the curves (training.png). Takes minutes on a CPU.

Two things make it learn fast. Positions are absolute, as in BART: which of two numbers came first is then told at once,
where a T5 of this size still mixes days and months. And a year is one token, so that 19 or 20 is never half of it.

Two digits of a year mean 1950 to 2049. With slashes the order of numbers is said, "(US)" or "(UK)", unless it is clear.
"""

from __future__ import annotations

import argparse
import random
import unicodedata
from calendar import day_name, month_name, monthrange
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from formers import (
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)
from formers.training.metrics import Metrics
from formers.training.text_metrics import ExactMatch, Texts

FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
WIDTH, LAYERS, HEADS, LONGEST = 128, 2, 4, 96

# Per language: months, weekdays from Monday on, and how dates are written; {m} month, {w} weekday, {y} year.
LANGUAGES: list[tuple[str, str, list[str]]] = [
    (
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        ["{d}. {m} {y}", "den {d}. {m} {y}", "{w}, den {d}. {m} {y}", "{w}, {d}. {m} {y}", "am {d}. {m} {y}"],
    ),
    (
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        ["{d} {m} {y}", "le {1er} {m} {y}", "{w} {1er} {m} {y}"],
    ),
    (
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "lunes martes miércoles jueves viernes sábado domingo",
        ["{d} de {m} de {y}", "el {d} de {m} del {y}", "{w}, {d} de {m} de {y}", "{d} {m} {y}"],
    ),
    (
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        ["{d} {m} {y}", "il {d} {m} {y}", "{w} {d} {m} {y}"],
    ),
    (
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
        ["{d} de {m} de {y}", "{w}, {d} de {m} de {y}"],
    ),
    (
        "januari februari maart april mei juni juli augustus september oktober november december",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
        ["{d} {m} {y}", "{w} {d} {m} {y}", "de {d}e {m} {y}"],
    ),
    (
        "januari februari mars april maj juni juli augusti september oktober november december",
        "måndag tisdag onsdag torsdag fredag lördag söndag",
        ["{d} {m} {y}", "den {d} {m} {y}", "{w}en den {d} {m} {y}"],
    ),
    (
        "januar februar marts april maj juni juli august september oktober november december",
        "mandag tirsdag onsdag torsdag fredag lørdag søndag",
        ["{d}. {m} {y}", "den {d}. {m} {y}", "{w} den {d}. {m} {y}"],
    ),
    (
        "tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta "
        "heinäkuuta elokuuta syyskuuta lokakuuta marraskuuta joulukuuta",
        "maanantai tiistai keskiviikko torstai perjantai lauantai sunnuntai",
        ["{d}. {m} {y}", "{w} {d}. {m} {y}"],
    ),
    (
        "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
        "poniedziałek wtorek środa czwartek piątek sobota niedziela",
        ["{d} {m} {y}", "{d} {m} {y} r.", "{w}, {d} {m} {y}"],
    ),
    (
        "ledna února března dubna května června července srpna září října listopadu prosince",
        "pondělí úterý středa čtvrtek pátek sobota neděle",
        ["{d}. {m} {y}", "{w} {d}. {m} {y}"],
    ),
    (
        "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
        "Pazartesi Salı Çarşamba Perşembe Cuma Cumartesi Pazar",
        ["{d} {m} {y}", "{d} {m} {y} {w}"],
    ),
    (
        "január február március április május június július augusztus szeptember október november december",
        "hétfő kedd szerda csütörtök péntek szombat vasárnap",
        ["{y}. {m} {d}.", "{y}. {m} {d}., {w}"],
    ),
    (
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "понедельник вторник среда четверг пятница суббота воскресенье",
        ["{d} {m} {y}", "{d} {m} {y} г.", "{w}, {d} {m} {y} года"],
    ),
    (
        "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
        "月 火 水 木 金 土 日",
        ["{y}年{m}{d}日", "{y}年{m}{d}日（{w}）"],
    ),
    (
        "1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",
        "월요일 화요일 수요일 목요일 금요일 토요일 일요일",
        ["{y}년 {m} {d}일", "{y}년 {m} {d}일 {w}"],
    ),
]
# Of English.
MONTHS, WEEKDAYS = month_name[1:], day_name[:]
# {d} day, {o} its ordinal number, {y} year, perhaps in two digits or in words, {year} in digits.
ENGLISH = [
    *(
        "{d} {m} {y}",
        "{d} {m}, {y}",
        "{m} {d}, {y}",
        "{m} {d} {y}",
        "{m} the {o}, {y}",
        "{d}-{m}-{y}",
        "{year} {m} {d}",
    ),
    *("the {o} of {m}, {y}", "the {o} of {m} {y}", "the {o} day of {m}, {y}", "{o} of {m} {y}"),
]
FEASTS = {
    (1, 1): ["New Year's Day", "New Year"],
    (2, 14): ["Valentine's Day", "St Valentine's Day"],
    (3, 17): ["St Patrick's Day"],
    (5, 1): ["May Day"],
    (7, 4): ["the Fourth of July", "Independence Day (US)"],
    (7, 14): ["Bastille Day"],
    (10, 31): ["Halloween"],
    (12, 24): ["Christmas Eve"],
    (12, 25): ["Christmas Day", "Christmas"],
    (12, 26): ["Boxing Day"],
    (12, 31): ["New Year's Eve"],
}
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS["twelve"] = "twelfth"
ROMAN = "I II III IV V VI VII VIII IX X XI XII"


def number(n: int) -> str:
    """A number below 100 in words."""
    if n < 20:
        return NUMBERS.split()[n]
    tens, rest = divmod(n, 10)
    return TENS.split()[tens - 2] + (f"-{number(rest)}" if rest else "")


def ordinal(n: int, rng: random.Random) -> str:
    """An ordinal number in words or with its ending."""
    if rng.random() < 0.6:
        return f"{n}{'th' if n in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
    *before, last = number(n).split("-")
    plain = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return "-".join([*before, ORDINALS.get(last, plain)])


def year_in_words(year: int, rng: random.Random) -> str:
    """A year as it is spoken."""
    century, rest = divmod(year, 100)
    joint = rng.choice([" and ", " "])
    if century == 20 and rest < 10:
        return "two thousand" + (f"{joint}{number(rest)}" if rest else "")
    if not rest:
        return f"{number(century)} hundred"
    if rng.random() < 0.2:
        return f"{number(century)} hundred{joint}{number(rest)}"
    return f"{number(century)} {number(rest) if rest > 9 else f'oh {number(rest)}'}"


def year_in_digits(year: int, rng: random.Random) -> str:
    """A year in four digits, or in two where that is clear."""
    if 1950 <= year <= 2049 and rng.random() < 0.3:
        return rng.choice(["{:02}", "'{:02}"]).format(year % 100)
    return str(year)


def in_numbers(day: date, rng: random.Random) -> str:
    """Numbers alone."""
    d, m, y = day.day, day.month, day.year
    two = rng.random() < 0.5
    dd, mm = (f"{d:02}", f"{m:02}") if two else (str(d), str(m))
    yy = year_in_digits(y, rng).removeprefix("'")
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(["{y}/{m}/{d}", "{y}-{m}-{d}", "{y}.{m}.{d}", "{y} {m} {d}"]).format(y=y, m=mm, d=dd)
    if kind == 1:
        return f"{y}{m:02}{d:02}"
    if kind == 2:
        return rng.choice(["{d}.{m}.{y}", "{d}. {m}. {y}", "{d}-{m}-{y}"]).format(y=yy, m=mm, d=dd)
    if kind == 3:
        return rng.choice(["{d}.{m}.{y}", "{d}. {m} {y}", "{d}/{m}/{y}"]).format(y=y, m=ROMAN.split()[m - 1], d=d)
    american = kind < 6
    text = f"{mm}/{dd}/{yy}" if american else f"{dd}/{mm}/{yy}"
    if d > 12 and rng.random() < 0.4:
        return text
    marks = ["(US)", "(m/d/y)", "(month first)"] if american else ["(UK)", "(d/m/y)", "(day first)"]
    mark = rng.choice(marks)
    return f"{text} {mark}" if rng.random() < 0.8 else f"{mark} {text}"


def in_english(day: date, rng: random.Random) -> str:
    """Month names, words, abbreviations."""
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    if rng.random() < 0.4:
        month = month[: 4 if month == "September" and rng.random() < 0.5 else 3] + rng.choice(["", "."])
    y = year_in_words(day.year, rng) if rng.random() < 0.2 else year_in_digits(day.year, rng)
    d = str(day.day) if rng.random() < 0.5 else ordinal(day.day, rng)
    form = rng.choice(ENGLISH)
    text = form.format(d=d, m=month, y=y, o=ordinal(day.day, rng), year=day.year)
    if rng.random() < 0.3:
        short = weekday if rng.random() < 0.5 else weekday[: 4 if weekday[0] == "T" else 3] + rng.choice(["", "."])
        text = f"{short}{rng.choice([', ', ' '])}{text}"
    return text


def in_another_language(day: date, rng: random.Random) -> str:
    """One of the other languages."""
    months, weekdays, forms = rng.choice(LANGUAGES)
    month, weekday = months.split()[day.month - 1], weekdays.split()[day.weekday()]
    first = "1er" if day.day == 1 else str(day.day)
    text = rng.choice(forms).format_map({"d": day.day, "1er": first, "m": month, "w": weekday, "y": day.year})
    return without_accents(text) if rng.random() < 0.2 else text


def by_its_name(day: date, rng: random.Random) -> str | None:
    """A feast, or the last day of a month."""
    names = list(FEASTS.get((day.month, day.day), []))
    if day.day == monthrange(day.year, day.month)[1]:
        names += [f"the last day of {MONTHS[day.month - 1]}", f"the last of {MONTHS[day.month - 1]}"]
    return f"{rng.choice(names)}{rng.choice([' ', ', ', ' of '])}{day.year}" if names else None


def without_accents(text: str) -> str:
    """Latin letters without their marks."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not ("\u0300" <= c <= "\u036f"))


def phrase(day: date, rng: random.Random) -> str:
    """One of the ways in which people write a day."""
    named = by_its_name(day, rng) if rng.random() < 0.3 else None
    ways = [in_numbers, in_english, in_another_language]
    text = named or rng.choices(ways, [0.25, 0.35, 0.4])[0](day, rng)
    chance = rng.random()
    if chance < 0.05:
        text = text.upper()
    elif chance < 0.12:
        text = text.lower()
    if rng.random() < 0.1:
        text = rng.choice(["on ", "dated ", "Date: ", "(", "born "]) + text
        text += ")" if text[0] == "(" else ""
    return text


def held_out(day: date) -> bool:
    """Whether no phrase of a day is trained on: every tenth day, spread over all months and weekdays."""
    return (day - FIRST).days * 7919 % 10 == 3


Pairs = list[tuple[str, str]]


def pairs(days: Sequence[date], count: int, rng: random.Random, without: Iterable[str] = ()) -> Pairs:
    """Phrases with what they mean, none of them `without`."""
    known = {text.casefold() for text in without}
    made: Pairs = []
    while len(made) < count:
        day = rng.choice(days)
        text = phrase(day, rng)
        if text.casefold() not in known:
            made.append((text, day.isoformat()))
    return made


def new_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of lower case, learned from the texts; numbers are years or pairs of digits, `</s>` ends each."""
    engine = Tokenizer(models.BPE())
    engine.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"(?:19|20)\d\d|\d{1,2}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(["<pad>", "</s>"])
    engine.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    empty = PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="<pad>", eos_token="</s>")
    return empty.train_new_from_iterator(texts, size)


def new_model(tokenizer: PreTrainedTokenizerFast) -> BartForConditionalGeneration:
    """A small BART with new weights."""
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_position_embeddings=LONGEST,
        dropout=0.0,
        init_std=0.06,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(config)


def main() -> None:
    """Make the data, train tokenizer and model, and read what was held out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--phrases", type=int, default=200_000, help="phrases to train on, each once")
    parser.add_argument("--held-out", type=int, default=2_000, help="phrases of each test")
    parser.add_argument("--vocabulary", type=int, default=2_000, help="tokens that the tokenizer learns")
    parser.add_argument("--batch-size", type=int, default=64, help="phrases a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    set_seed(args.seed)
    rng = random.Random(args.seed)
    days = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    train = pairs([day for day in days if not held_out(day)], args.phrases, rng)
    tests = {
        "days": pairs([day for day in days if held_out(day)], args.held_out, rng),
        "phrases": pairs([day for day in days if not held_out(day)], args.held_out, rng, {text for text, _ in train}),
    }
    tokenizer = new_tokenizer([text for pair in train[:20_000] for text in pair], args.vocabulary)
    model = new_model(tokenizer)

    def encoded(data: Pairs) -> list[dict[str, list[int]]]:
        texts, wanted = zip(*data, strict=True)
        rows = tokenizer(list(texts))["input_ids"]
        labels = tokenizer(list(wanted))["input_ids"]
        return [{"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)]

    sets = {name: encoded(data) for name, data in tests.items()}
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(args.output),
            num_train_epochs=1,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=250,
            learning_rate=args.learning_rate,
            warmup_ratio=0.05,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            train_sampling_strategy="group_by_length",
            predict_with_generate=True,
            generation_max_length=12,
            eval_strategy="steps",
            eval_steps=0.25,
            save_strategy="no",
            logging_steps=50,
            seed=args.seed,
        ),
        train_dataset=encoded(train),
        eval_dataset=sets["days"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        compute_metrics=Metrics(Texts(tokenizer, ExactMatch())),
    )
    trainer.train()
    trainer.save_model()
    for name, wanted in (("days", "days never seen"), ("phrases", "new phrases of days seen in others")):
        output = trainer.predict(sets[name], metric_key_prefix=name)
        print(f"{wanted}: {output.metrics[f'{name}_exact_match']:.2%} of {len(sets[name])} phrases read exactly")
        read = tokenizer.batch_decode(output.predictions.clip(min=0), skip_special_tokens=True)
        wrong = [(text, iso, got) for (text, iso), got in zip(tests[name], read, strict=True) if got != iso]
        for text, iso, got in wrong[:5]:
            print(f"  {text!r} is {iso}, was read as {got}")
    samples = ["Tues. the 3rd of March, '87", "31. dezember 1999", "7/4/76 (US)", "le 1er août 2031", "1969年7月20日"]
    for text in samples:
        ids = model.generate(**tokenizer(text, return_tensors="pt", return_token_type_ids=False), max_length=12)
        print(f"{text:>28} -> {tokenizer.decode(ids[0], skip_special_tokens=True)}")
    print(f"the model, its card and its curves (training.png): {args.output}")


if __name__ == "__main__":
    main()
