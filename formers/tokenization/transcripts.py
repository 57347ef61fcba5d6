"""Transcripts brought into one form, so that counting errors leaves aside how things are written.

The rules are those that Whisper's authors measured with: "Dr. Smith's colour, twenty one dollars" and "doctor smith is
color $21" are the same text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

# Letters that have no decomposition into a base and a mark.
_BASES = str.maketrans({
    "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "ß": "ss", "ẞ": "SS", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "th", "ł": "l", "Ł": "L",
})  # fmt: skip
_CONTRACTIONS = {
    **{rf"\b{word}\b": meaning for word, meaning in {
        "won't": "will not", "can't": "can not", "let's": "let us", "ain't": "aint", "y'all": "you all",
        "wanna": "want to", "gotta": "got to", "gonna": "going to", "i'ma": "i am going to", "imma": "i am going to",
        "woulda": "would have", "coulda": "could have", "shoulda": "should have", "ma'am": "madam",
    }.items()},
    **{rf"\b{title}\b": name + " " for title, name in {
        "mr": "mister", "mrs": "missus", "st": "saint", "dr": "doctor", "prof": "professor", "capt": "captain",
        "gov": "governor", "ald": "alderman", "gen": "general", "sen": "senator", "rep": "representative",
        "pres": "president", "rev": "reverend", "hon": "honorable", "asst": "assistant", "assoc": "associate",
        "lt": "lieutenant", "col": "colonel", "jr": "junior", "sr": "senior", "esq": "esquire",
    }.items()},
    **{rf"{ending}\b": " " + meaning for ending, meaning in {
        "'d been": "had been", "'s been": "has been", "'d gone": "had gone", "'s gone": "has gone",
        "'d done": "had done", "'s got": "has got", "n't": "not", "'re": "are", "'s": "is", "'d": "would",
        "'ll": "will", "'t": "not", "'ve": "have", "'m": "am",
    }.items()},
}  # fmt: skip
_REPLACED = [(re.compile(pattern), meaning) for pattern, meaning in _CONTRACTIONS.items()]
_FILLERS = re.compile(r"\b(hmm|mm|mhm|mmm|uh|um)\b")
_NUMBER = re.compile(r"^\d+(\.\d+)?$")


def basic(text: str, remove_diacritics: bool = False) -> str:
    """Any language: lower case, without punctuation, symbols and what stands in brackets."""
    text = _without_brackets(text.lower())
    text = _plain(text) if remove_diacritics else _spaced(unicodedata.normalize("NFKC", text))
    return re.sub(r"\s+", " ", text.lower())


class English:
    """English: `basic` without accents, contractions spelled out, numbers in digits, American spelling."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        """spellings: American by British ones."""
        self._spellings = spellings

    def normalize(self, text: str) -> str:
        """The text in its one form."""
        text = _FILLERS.sub("", _without_brackets(text.lower()))
        text = re.sub(r"\s+'", "'", text)
        for pattern, meaning in _REPLACED:
            text = pattern.sub(meaning, text)
        text = re.sub(r"(\d),(\d)", r"\1\2", text)
        text = re.sub(r"\.([^0-9]|$)", r" \1", text)
        text = numbers_in_digits(_plain(text, keep=".%$¢€£"))
        text = " ".join(self._spellings.get(word, word) for word in text.split())
        # Signs that belong to no number.
        text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
        text = re.sub(r"([^0-9])%", r"\1 ", text)
        return re.sub(r"\s+", " ", text)


def _without_brackets(text: str) -> str:
    return re.sub(r"\(([^)]+?)\)", "", re.sub(r"[<\[][^>\]]*[>\]]", "", text))


def _spaced(text: str) -> str:
    """Marks, symbols and punctuation become spaces."""
    return "".join(" " if unicodedata.category(char)[0] in "MSP" else char for char in text)


def _plain(text: str, keep: str = "") -> str:
    """As `_spaced`, accents removed and signs in `keep` left."""
    parts = (char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char) != "Mn")
    return "".join(char if char in keep else _spaced(char.translate(_BASES)) for char in parts)


class _Word(NamedTuple):
    """What a word of a number means. `number` has the suffix of an ordinal or a plural ("th", "s")."""

    kind: str
    number: int = 0
    suffix: str = ""
    sign: str = ""


_ONES = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_MULTIPLES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "quadrillion": 10**15, "quintillion": 10**18, "sextillion": 10**21, "septillion": 10**24, "octillion": 10**27,
    "nonillion": 10**30, "decillion": 10**33,
}  # fmt: skip
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "twelve": "twelfth"}
_ENDINGS = {"one": "st", "two": "nd", "three": "rd"}


def _vocabulary() -> dict[str, _Word]:
    words = dict.fromkeys(("o", "oh", "zero"), _Word("zero"))
    words["zeroth"] = _Word("ordinal", 0, "th")
    for name, number in _ONES.items():
        words[name] = _Word("one", number)
        words["sixes" if name == "six" else name + "s"] = _Word("ordinal", number, "s")
        ordinal = _ORDINALS.get(name, name + ("h" if name.endswith("t") else "th"))
        words[ordinal] = _Word("ordinal", number, _ENDINGS.get(name, "th"))
    for name, number in _TENS.items():
        words[name] = _Word("ten", number)
        words[name.replace("y", "ies")] = _Word("tens", number, "s")
        words[name.replace("y", "ieth")] = _Word("tens", number, "th")
    for name, number in _MULTIPLES.items():
        words[name] = _Word("multiple", number)
        words[name + "s"] = _Word("multiples", number, "s")
        words[name + "th"] = _Word("multiples", number, "th")
    for sign, names in {"-": "minus negative", "+": "plus positive"}.items():
        words.update(dict.fromkeys(names.split(), _Word("sign", sign=sign)))
    for sign, name in {"£": "pound", "€": "euro", "$": "dollar", "¢": "cent"}.items():
        words[name] = words[name + "s"] = _Word("unit", sign=sign)
    words.update(dict.fromkeys(("per", "percent"), _Word("percent")))
    words.update({name: _Word(name) for name in ("and", "double", "triple", "point")})
    return words


_WORDS = _vocabulary()
_OTHER = _Word("other")
_SIGNS = "-+£€$¢"


class _Reader:
    """Reads words from left to right. `value` is the number so far: a str where digits were named one by one."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.out: list[str] = []
        self.value: int | str | None = None
        self.sign: str | None = None

    def read(self) -> str:
        place = 0
        while place < len(self.words):
            place += self._step(place)
        self._finish()
        return " ".join(self.out)

    def _step(self, place: int) -> int:
        """Take the word at `place`; how many words that used up."""
        word = self.words[place]
        before = _WORDS.get(self.words[place - 1], _OTHER).kind if place else ""
        following = self.words[place + 1] if place + 1 < len(self.words) else ""
        unsigned = word[1:] if word[0] in _SIGNS else word
        if _NUMBER.match(unsigned):
            self._digits(word, unsigned)
            return 1
        meaning = _WORDS.get(word, _OTHER)
        kind = meaning.kind
        if kind == "other":
            self._finish()
            self._say(word)
        elif kind == "zero":
            self.value = str(self.value or "") + "0"
        elif kind in ("one", "ten"):
            self.value = self._joined(meaning, before)
        elif kind in ("ordinal", "tens"):
            self._say(f"{self._joined(meaning, before)}{meaning.suffix}")
        elif kind in ("multiple", "multiples"):
            self._multiply(meaning)
        elif kind == "unit":
            self._unit(word, meaning.sign)
        elif kind == "percent":
            return self._percent(word, following)
        else:
            return self._link(word, meaning, before, following)
        return 1

    def _say(self, text: Any) -> None:
        self.out.append((self.sign or "") + str(text))
        self.value = self.sign = None

    def _finish(self) -> None:
        if self.value is not None:
            self._say(self.value)

    def _digits(self, word: str, unsigned: str) -> None:
        if isinstance(self.value, str) and self.value.endswith("."):
            self.value += word
            return
        self._finish()
        if unsigned is not word:
            self.sign = word[0]
        exact = Fraction(unsigned)
        self.value = exact.numerator if exact.denominator == 1 else unsigned

    def _joined(self, meaning: _Word, before: str) -> int | str:
        """The number with this one added ("twenty" and "one") or its digits appended ("one", "nine")."""
        value, number = self.value, meaning.number
        small = meaning.kind in ("one", "ordinal")
        if value is None:
            return number
        if isinstance(value, str):
            if small and before == "ten" and number < 10:
                return value[:-1] + str(number)
            return value + str(number)
        room = 10 if small and number < 10 else 100
        return value + number if value % room == 0 and not (small and before == "one") else f"{value}{number}"

    def _multiply(self, meaning: _Word) -> None:
        value, number = self.value, meaning.number
        result: int | None = number
        if isinstance(value, str) or (value == 0 and not meaning.suffix):
            result = _whole(value, number)
            if result is None:
                self._say(value)
                result = number
        elif value is not None:
            thousands, rest = divmod(value, 1000)
            result = thousands * 1000 + rest * number
        if meaning.suffix:
            self._say(f"{result}{meaning.suffix}")
        else:
            self.value = result

    def _unit(self, word: str, sign: str) -> None:
        if self.value is None:
            self._say(word)
        else:
            self.sign = sign
            self._say(self.value)

    def _percent(self, word: str, following: str) -> int:
        if self.value is None:
            self._say(word)
        elif word == "percent" or following == "cent":
            self._say(f"{self.value}%")
            return 1 if word == "percent" else 2
        else:
            self._say(self.value)
            self._say(word)
        return 1

    def _link(self, word: str, meaning: _Word, before: str, following: str) -> int:
        """Words that only mean something next to a number."""
        then = _WORDS.get(following, _OTHER)
        numeric = _NUMBER.match(following) is not None
        if meaning.kind == "sign":
            self._finish()
            if then.kind == "other" and not numeric:
                self._say(word)
            else:
                self.sign = meaning.sign
        elif then.kind == "other" and not numeric:
            self._finish()
            self._say(word)
        elif meaning.kind == "point":
            if then.kind in ("zero", "one", "ten") or numeric:
                self.value = f"{self.value or ''}."
        elif meaning.kind == "and":
            if before != "multiple":
                self._finish()
                self._say(word)
        elif then.kind in ("zero", "one"):
            self.value = f"{self.value or ''}{str(then.number) * (2 if word == 'double' else 3)}"
            return 2
        else:
            self._finish()
            self._say(word)
        return 1


def _whole(value: int | str, number: int) -> int | None:
    """The product, None if it is not a whole number."""
    try:
        product = Fraction(value) * number
    except ValueError:
        return None
    return product.numerator if product.denominator == 1 else None


def numbers_in_digits(text: str) -> str:
    """The text with its numbers in digits: "twenty one thousand", "nineteen sixties", "two point five percent"."""
    text = _halves(text)
    text = re.sub(r"([a-z])([0-9])", r"\1 \2", text)
    text = re.sub(r"([0-9])([a-z])", r"\1 \2", text)
    text = re.sub(r"([0-9])\s+(st|nd|rd|th|s)\b", r"\1\2", text)
    text = _Reader(text.split()).read()
    text = re.sub(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b", lambda m: f"{m[1]}{m[2]}.{int(m[3]):02d}", text)
    text = re.sub(r"[€£$]0.([0-9]{1,2})\b", lambda m: f"¢{int(m[1])}", text)
    return re.sub(r"\b1(s?)\b", r"one\1", text)


def _halves(text: str) -> str:
    """The text with "and a half" after a number as "point five"."""
    *firsts, last = re.split(r"\band\s+a\s+half\b", text)
    parts = []
    for part in firsts:
        if part.strip():
            kind = _WORDS.get(part.split()[-1], _OTHER).kind
            numeric = kind in ("zero", "one", "ten", "multiple")
            parts += [part, "point five" if numeric else "and a half"]
    return " ".join([*parts, last] if last.strip() else parts)
