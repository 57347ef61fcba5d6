"""The benchmarks' own logic: ratios, bars, answers, the table, processes in turns. Nothing here judges a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.catalog import BENCHMARKS
from benchmarks.table import FLOOR, OURS, Bar, Comparison, agree, compare, render
from benchmarks.timing import SKIPPED, Contender, ContenderError, Record, Sample, alternate, measure
from benchmarks.worker import TASKS


def record(*seconds: float, answer: object = None, rss: float = 1e6) -> Record:
    return Record([Sample(each, rss, answer) for each in seconds])


@pytest.mark.parametrize(
    ("bar", "value", "met", "text"),
    [
        (Bar("time", 0.5), 0.5, True, "≤ 0.5 ×"),
        (Bar("time", 0.49), 0.5, False, "≤ 0.49 ×"),
        (Bar("speed", 2), 2, True, "≥ 2 ×"),
        (Bar("speed", 2.1), 2, False, "≥ 2.1 ×"),
        (Bar("seconds", 3), 3, True, "≤ 3 s"),
        (Bar("seconds", 2.9), 3, False, "≤ 2.9 s"),
        (Bar("speed"), 2, None, "none, ↑"),
        (Bar("time"), 0.5, None, "none, ↓"),
    ],
)
def test_bar(bar: Bar, value: float, met: bool | None, text: str) -> None:
    assert bar.value(ours=3, theirs=6) == value
    assert bar.met(value) is met
    assert str(bar) == text


def test_medians_are_compared_and_the_range_is_turn_by_turn() -> None:
    records = {OURS: record(1, 9, 2), "peer": record(8, 18, 4), FLOOR: record(1, 1, 1)}
    line = compare("b", Comparison("w", ("peer",), Bar("speed", 4)), records)
    assert (line.ours, line.theirs, line.value) == (2, 8, 4)
    assert (line.lowest, line.highest) == (2, 8)
    assert line.met is True
    assert line.floors == 2


def test_the_best_peer_counts() -> None:
    records = {OURS: record(2), "slow": record(8), "fast": record(6), "broken": Record(error="no")}
    line = compare("b", Comparison("w", ("slow", "fast", "broken"), Bar("speed", 3.5)), records)
    assert (line.peer, line.value, line.met) == ("fast", 3, False)


def test_a_bar_without_peers() -> None:
    line = compare("b", Comparison("w", (), Bar("seconds", 0.1)), {OURS: record(0.05, 0.2, 0.06)})
    assert (line.value, line.met, line.peer, line.theirs) == (0.06, True, "", None)


def test_memory_is_compared_without_a_floor() -> None:
    records = {OURS: record(1, rss=2e6), "peer": record(1, rss=8e6), FLOOR: record(1)}
    line = compare("b", Comparison("w", ("peer",), Bar("time"), "rss"), records)
    assert (line.ours, line.value, line.met, line.floors) == (2e6, 0.25, None, None)
    assert "2 MB" in render([line])


def test_points_compare_means_of_a_figure() -> None:
    def scores(*values: float) -> Record:
        return Record([Sample(1, 0, None, {"f1": value}) for value in values])

    records = {OURS: scores(0.80, 0.82, 0.90), "peer": scores(0.81, 0.83, 0.88)}
    line = compare("b", Comparison("w", ("peer",), Bar("points", -0.5), "f1"), records)
    assert line.value == pytest.approx(0.0, abs=1e-9)
    assert line.met is True
    assert "| 84.00%  | peer | 84.00% | +0.00 pt | " in render([line])
    assert "≥ -0.5 pt" in render([line])
    worse = compare(
        "b", Comparison("w", ("peer",), Bar("points", -0.5), "f1"), {**records, OURS: scores(0.8, 0.8, 0.8)}
    )
    assert worse.met is False


def test_turns_reach_the_arguments(tmp_path: Path) -> None:
    code = 'import sys; print(\'{"seconds": 1, "figures": {"turn": %s}}\' % sys.argv[1])'
    records = alternate({"a": Contender(("-c", code, "{turn}"))}, tmp_path, repeats=2)
    assert [sample.value("turn") for sample in records["a"].samples] == [0, 1]


def test_what_failed_misses_its_bar() -> None:
    broken = Record(error="it broke")
    for records in ({OURS: broken, "peer": record(1)}, {OURS: record(1), "peer": broken}):
        line = compare("b", Comparison("w", ("peer",), Bar("time", 1)), records)
        assert line.met is False
        assert "it broke" in render([line])


def test_an_optional_peer_is_skipped_with_its_reason() -> None:
    line = compare("b", Comparison("w", ("peer",), Bar("speed")), {OURS: record(1), "peer": Record(error="not here")})
    assert line.met is None
    assert "b, w: peer skipped: not here" in render([line])


def test_what_need_not_run_here_misses_no_bar() -> None:
    skipped = Record(error=f"{SKIPPED}it needs a thing")
    line = compare("b", Comparison("w", ("peer",), Bar("time", 1)), {OURS: skipped, "peer": skipped})
    assert line.met is None
    assert "it needs a thing" in render([line])


def test_different_answers_miss_the_bar() -> None:
    records = {OURS: record(1, answer=["POSITIVE"]), "peer": record(9, answer=["NEGATIVE"])}
    line = compare("b", Comparison("w", ("peer",), Bar("speed", 3)), records)
    assert line.met is False
    assert line.note == "answers differ: peer"


def test_an_answer_that_changes_between_turns_is_told() -> None:
    ours = Record([Sample(1, 0, [1]), Sample(1, 0, [2])])
    line = compare("b", Comparison("w", ("peer",), Bar("speed", 1)), {OURS: ours, "peer": record(1, answer=[1])})
    assert line.note == "answers differ: formers"


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([{"label": "A", "score": 0.5}], [{"label": "A", "score": 0.50001}], True),
        ([{"label": "A", "score": 0.5}], [{"label": "A", "score": 0.501}], False),
        ([{"label": "A", "score": 0.5}], [{"label": "B", "score": 0.5}], False),
        ([1, 2], [1, 2, 3], False),
        ([1, 2], [1, 3], False),
        ({"input_ids": "ab"}, {"input_ids": "ab", "attention_mask": "cd"}, False),
        (None, [], False),
    ],
)
def test_agreement(ours: object, theirs: object, same: bool) -> None:
    assert agree(ours, theirs) is same


def test_table() -> None:
    records = {OURS: record(0.002, 0.004), "peer": record(0.5, 0.5)}
    lines = [
        compare("b", Comparison("first", ("peer",), Bar("time", 0.5)), records),
        compare("b", Comparison("second", (), Bar("seconds", 0.001)), records),
    ]
    head, rule, first, second = render(lines).splitlines()
    assert len({len(row) for row in (head, rule, first, second)}) == 1
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        *("b", "first", "3 ms", "peer", "500 ms", "0.006 ×", "0.004–0.008", "≤ 0.5 ×", "yes", "")
    ]
    assert [cell.strip() for cell in second.split("|")[1:-1]] == [
        *("b", "second", "3 ms", "", "", "", "2 ms–4 ms", "≤ 0.001 s", "NO", "")
    ]


def test_processes_take_turns(tmp_path: Path) -> None:
    def contender(name: str) -> Contender:
        code = (
            f"import sys; log = open(sys.argv[1] + '/log', 'a'); log.write({name!r})\n"
            "print('a line of somebody else'); print('{\"seconds\": 2.5, \"answer\": [1]}')"
        )
        return Contender(("-c", code))

    records = alternate({name: contender(name) for name in "ab"}, tmp_path, repeats=2, warmups=1)
    assert (tmp_path / "log").read_text() == "ababab"
    assert [(sample.seconds, sample.answer) for sample in records["b"].samples] == [(2.5, [1]), (2.5, [1])]
    assert all(sample.rss > 1e6 for sample in records["a"].samples)


def test_clocks_of_whole_processes(tmp_path: Path) -> None:
    code = "import time; print('{}', flush=True); time.sleep(0.2)"
    answered = measure(Contender(("-c", code), "answered"), tmp_path)
    ended = measure(Contender(("-c", code), "ended"), tmp_path)
    assert answered.seconds > 0
    assert ended.seconds > 0.2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('no such thing')", "no such thing"),
        ("raise ValueError('wrong')", "ValueError: wrong"),
        ("pass", "no answer"),
        ("print('{}'); raise SystemExit(3)", "status 3"),
    ],
)
def test_a_failing_process_is_told_and_left_out(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match=message):
        measure(Contender(("-c", code), "ended"), tmp_path)
    records = alternate({"a": Contender(("-c", code), "ended")}, tmp_path, repeats=2)
    assert not records["a"].samples
    assert message in str(records["a"].error)


def test_every_comparison_has_its_contenders_and_every_contender_its_task() -> None:
    assert len({benchmark.name for benchmark in BENCHMARKS}) == len(BENCHMARKS)
    for benchmark in BENCHMARKS:
        assert OURS in benchmark.contenders
        for comparison in benchmark.comparisons:
            assert set(comparison.peers) <= set(benchmark.contenders)
        for contender in benchmark.contenders.values():
            if contender.arguments[0] == "-c":
                compile(contender.arguments[1], benchmark.name, "exec")
            else:
                assert contender.arguments[:2] == ("-m", "benchmarks.worker")
                assert contender.arguments[2] in TASKS


def test_the_command_names_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nothing"])
    assert ended.value.code == 2
    assert "tokenize-tensors" in capsys.readouterr().err
