"""Speeds: estimated from arithmetic with bounds, and measured."""

from __future__ import annotations

import csv
import datetime
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from sagerank_cost import CostError
from sagerank_cost.arithmetic import REQUEST_SECONDS, TOKEN_SECONDS, Unit, precisions, units
from sagerank_cost.catalogue import Instance
from sagerank_cost.measured import COLUMNS, Measurement, append, measurements, nearest, own, own_file
from sagerank_cost.models import PRECISIONS, choice
from sagerank_cost.sheet import data_notes
from sagerank_cost.store import DATA
from sagerank_cost.throughput import Speed, serverless_speed, speed

from .conftest import CATALOGUE, TINY

XLARGE = CATALOGUE.instance("ml.c7i.xlarge")
# The machines of throughput.csv: cores, and the clock that a loop of dependent additions measured. Of the last one nobody noted
# it: at this one its fastest matrix product (111.6 GFLOP/s a core) is the same share of 32 operations a cycle as on the
# others, 91 %. So AMD's 512-bit operations go in two halves there, and it is held to what AVX2 does.
MACHINES = {
    "AMD EPYC 7003, 1 core, AVX2": (1, 3180),
    "AMD EPYC 7003, 2 cores, AVX2": (2, 3180),
    "AMD, 2 cores, AVX-512": (2, 3830),
}


def machine(cores: int, mhz: int, *isa: str, maybe: tuple[str, ...] = ()) -> Instance:
    """A CPU machine with as many vCPUs as cores."""
    known = CATALOGUE.instance("ml.c6g.large")
    isa_, maybe_ = frozenset(isa), frozenset(maybe)
    return replace(known, name="local", vcpu=cores, clock_mhz=mhz, isa=isa_, maybe=maybe_)


def row(seconds: float, documents: int = 100, tokens: float = 150.0, **changes: str) -> Measurement:
    names = {"model": "tiny", "precision": "fp32", "instance": "ml.c7i.xlarge", "kind": "measured"}
    texts = {**names, "source": "a test", "date": "2026-11-25", **changes}
    return Measurement(**texts, documents=documents, tokens=tokens, seconds=seconds)


def estimate(precision: str = "fp32", instance: Instance = XLARGE, documents: int = 100) -> Speed:
    return speed(TINY, precision, instance, documents=documents, tokens=150)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's rows are, which nobody has written yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share" / "sagerank" / "throughput.csv"


@pytest.mark.parametrize(
    ("instance", "computed"),
    [
        ("ml.c7g.xlarge", ("fp32", "int8", "bf16")),
        ("ml.r8g.xlarge", ("fp32", "int8", "bf16")),
        ("ml.c6g.xlarge", ("fp32", "int8")),
        ("ml.c7i.xlarge", ("fp32", "int8")),  # AMX has bf16, and ONNX Runtime no product with it
        ("ml.g4dn.xlarge", ("fp32",)),
        ("ml.g6.xlarge", ("bf16", "fp32")),
        ("ml.p6-b200.48xlarge", ("bf16", "fp32")),
        (None, ("fp32", "int8")),
    ],
)
def test_an_instance_computes_in_some_precisions_and_refuses_the_others(
    instance: str | None, computed: tuple[str, ...]
) -> None:
    machine = CATALOGUE.instance(instance) if instance else None
    assert precisions(machine) == computed
    for precision in PRECISIONS:
        run = partial(serverless_speed, TINY, precision, 2048, documents=100, tokens=150)
        if machine:
            run = partial(estimate, precision, machine)
        if precision not in computed:
            with pytest.raises(CostError, match=r"take (fp32|bf16)\.$|measure it there"):
                run()
        elif not machine or not machine.gpu or (machine.gpu, precision) in units():
            assert run().basis == "estimated"


def test_bf16_is_faster_than_float32_by_what_graviton_is_said_to_gain() -> None:
    fp32, bf16 = (estimate(precision, CATALOGUE.instance("ml.c8g.xlarge")) for precision in ("fp32", "bf16"))
    assert 1.3 < fp32.seconds / bf16.seconds < 1.65
    assert "bf16 x 1.5 (1.1 to 2) [bf16; derived, not measured" in bf16.why


def test_the_estimate_holds_on_every_machine_that_we_measured() -> None:
    """Between its bounds, and they are narrow where it was measured: AVX2."""
    seen = set()
    for each in measurements():
        cores, mhz = MACHINES[each.instance]
        found = speed(
            choice(each.model),
            each.precision,
            machine(cores, mhz, "avx2"),
            documents=each.documents,
            tokens=round(each.tokens),
        )
        assert found.low < each.seconds < found.high, each
        assert found.high / found.low < 1.6
        seen.add(each.instance)
    assert seen == MACHINES.keys()


def test_vnni_gains_what_it_was_measured_to_gain() -> None:
    gain = units()["avx512_vnni", "int8"].share
    assert gain.typical == 2.0, "with two threads"
    assert gain.low < 2.10 < 2.44 < gain.high, "with one, over the rounds"


@pytest.mark.parametrize("unit", units().values(), ids=lambda unit: f"{unit.name} {unit.precision}")
def test_a_share_has_bounds_and_a_source(unit: Unit) -> None:
    assert unit.share.low < unit.share.typical < unit.share.high
    assert unit.source
    assert datetime.date.fromisoformat(unit.date)
    if not unit.source.startswith("measured"):
        assert unit.share.high / unit.share.low >= 1.7, "not measured, so wide"


def test_every_processor_of_the_catalogue_has_a_speed_or_says_that_it_has_none() -> None:
    for instance in CATALOGUE.instances.values():
        if instance.accelerator or (instance.gpu and (instance.gpu, "fp32") not in units()):
            with pytest.raises(CostError, match="measure it there|take a CPU or NVIDIA type"):
                estimate(instance=instance)
            continue
        found = estimate(instance=instance)
        assert found.low < found.seconds < found.high
        assert "not measured" in found.why or "[avx2; measured" in found.why
        assert "\n" not in found.why


def test_why_names_unit_share_bounds_and_source() -> None:
    why = estimate("int8").why
    assert "0.55 (0.38 to 0.75) of 2 cores x 3.2 GHz x 64 a cycle [avx512; derived, not measured" in why
    assert "int8 x 2.5 (1.5 to 4) [amx_int8; derived" in why


def test_sve_is_not_faster_than_the_neon_units_of_the_same_core() -> None:
    """Float32 products are NEON's in ONNX Runtime: a core of Graviton3 and 4 has four such units, one of Graviton2 two."""
    two, four = (machine(2, 2500, "neon", *more) for more in ((), ("sve",)))
    assert estimate(instance=four).seconds > 0.5 * estimate(instance=two).seconds


def test_what_is_not_certain_shows_in_the_fast_bound_alone() -> None:
    plain, perhaps, sure = (
        estimate(instance=machine(2, 3000, "avx2", *isa, maybe=maybe))
        for isa, maybe in (((), ()), ((), ("avx512",)), (("avx512",), ()))
    )
    assert (perhaps.seconds, perhaps.high) == (plain.seconds, plain.high)
    assert perhaps.low == pytest.approx(sure.low)
    assert perhaps.low < plain.low
    assert "at best with avx512, which is not certain" in perhaps.why
    cascade_lake = CATALOGUE.instance("ml.c5.large")
    assert "avx512_vnni" in cascade_lake.maybe
    assert "avx512_vnni" not in cascade_lake.isa


def test_many_cores_are_less_certain_than_few() -> None:
    few, many = (estimate(instance=machine(cores, 3000, "avx2")) for cores in (2, 64))
    assert many.high / many.low > 2 * few.high / few.low
    assert few.seconds / 32 < many.seconds < few.seconds


def test_no_gpu_answers_before_the_texts_are_read() -> None:
    """Tokenisation is serial with the GPU."""
    h100 = CATALOGUE.instance("ml.p5.48xlarge")
    least = REQUEST_SECONDS + 100 * 150 * TOKEN_SECONDS
    assert estimate("bf16", h100).seconds > least > 0.02
    assert estimate("bf16", h100, documents=1000).seconds > 8 * least
    small, large = (serverless_speed(TINY, "fp32", size, documents=1, tokens=1) for size in (1024, 4096))
    assert small.seconds > 2 * REQUEST_SECONDS > large.seconds, "half a vCPU takes twice as long"


def test_a_measured_row_takes_the_place_of_the_estimate(folder: Path) -> None:
    with (folder / "throughput.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(
            ["tiny", "fp32", "ml.c7i.xlarge", 100, 150, 0.5, "measured", "a test", "2026-11-25"]
        )
    found = speed(TINY, "fp32", XLARGE, documents=100, tokens=150, folder=folder)
    assert (found.basis, found.seconds) == ("measured", 0.5)
    twice = speed(TINY, "fp32", XLARGE, documents=200, tokens=150, folder=folder)
    assert 0.95 < twice.seconds <= 1.0, "what is once a request stays"
    assert twice.high / twice.low > found.high / found.low, "farther from what was measured"
    assert str(folder / "throughput.csv") in found.why
    assert "scaled" in twice.why


def test_the_nearest_shape_is_scaled(home: Path) -> None:
    append([row(1.0), row(20.0, documents=10, tokens=4000.0), row(0.1, documents=10)])
    assert home.exists()

    def near(documents: int, tokens: int) -> float:
        found = nearest("tiny", "fp32", "ml.c7i.xlarge", documents=documents, tokens=tokens)
        assert found
        return found.seconds

    assert [near(90, 160), near(8, 3000), near(5, 100)] == [1.0, 20.0, 0.1]
    assert nearest("tiny", "int8", "ml.c7i.xlarge", documents=1, tokens=1) is None


def test_rows_of_ones_own_beat_ours_and_survive_an_upgrade(home: Path) -> None:
    """They are in the user's folder, whatever happens to the package's."""
    assert own_file() == home
    assert not any("measured by you" in each for each in data_notes(CATALOGUE))
    ours = measurements()[0]
    before = (DATA / "throughput.csv").read_bytes()
    mine = replace(ours, seconds=9.0, documents=ours.documents + 30)
    append([mine, row(1.0), row(2.0)])
    assert (DATA / "throughput.csv").read_bytes() == before
    assert nearest(*ours.key[:3], documents=ours.documents, tokens=ours.tokens) == mine
    assert estimate().seconds == 2.0, "the last of one shape"
    assert f"2 measured by you, in {home}" in data_notes(CATALOGUE)[-1]
    assert measurements()[:2] == (mine, row(2.0))


def test_what_several_processes_write_at_once_is_all_kept(home: Path) -> None:
    programme = (
        "import sys; from sagerank_cost.measured import Measurement, append; sys.stdin.readline()\n"
        "for count in range(20): append([Measurement(model='tiny', precision='fp32', instance=sys.argv[1], documents=count + 1,"
        " tokens=9, seconds=1, kind='measured', source='a test', date='2026-11-25')])"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", programme, instance],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for instance in ("ml.c7i.large", "ml.c7i.xlarge")
    ]
    for writer in writers:  # both have begun
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(own()) == 40
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_serverless_sizes_have_rows_too(home: Path) -> None:
    append([row(4.0, instance="serverless 4096")])
    there, smaller = (
        serverless_speed(TINY, "fp32", size, documents=100, tokens=150) for size in (4096, 2048)
    )
    assert (there.basis, there.seconds) == ("measured", 4.0)
    assert smaller.basis == "estimated"
    assert home.exists()


def test_less_beside_than_we_think_still_makes_a_speed(home: Path) -> None:
    append([row(0.006, documents=100, instance="ml.p5.48xlarge", precision="bf16")])
    h100 = CATALOGUE.instance("ml.p5.48xlarge")
    assert estimate("bf16", h100).seconds == pytest.approx(0.006)
    assert 0.006 < estimate("bf16", h100, documents=200).seconds < 0.012
    assert home.exists()


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ({"seconds": "0"}, "are above 0"),
        ({"seconds": "nan"}, "are above 0"),
        ({"tokens": "many"}, "could not convert"),
        ({"model": "tinny"}, "did you mean tiny"),
        ({"precision": "fp8"}, "There is no precision 'fp8'"),
        ({"kind": "guess"}, "There is no kind of throughput 'guess'"),
    ],
)
def test_a_broken_row_names_file_and_line(home: Path, cell: dict[str, str], sentence: str) -> None:
    cells = ("tiny", "fp32", "x", 1, 1, 1, "measured", "me", "2026-11-25")
    good: dict[str, object] = dict(zip(COLUMNS, cells, strict=True))
    home.parent.mkdir(parents=True)
    with home.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([good, good | cell])
    with pytest.raises(CostError, match=f"{home}:3: .*{sentence}"):
        estimate()


def test_where_nothing_can_be_written_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(CostError, match="Set XDG_DATA_HOME, or name a folder with --data"):
        append([row(1.0)])
    assert estimate().basis == "estimated"


def test_burstable_types_have_a_baseline() -> None:
    baselines = {
        name: each.baseline for name, each in CATALOGUE.instances.items() if each.baseline is not None
    }
    assert baselines == {
        "ml.t2.medium": 0.2,
        "ml.t2.large": 0.3,
        "ml.t2.xlarge": 0.225,
        "ml.t2.2xlarge": 0.17,
    }


def test_a_cascade_costs_both_stages() -> None:
    instance = CATALOGUE.instance("ml.c7i.4xlarge")
    tiny, both, base = (
        speed(choice(name), "fp32", instance, documents=100, tokens=150).seconds
        for name in ("tiny", "tiny>base@20", "base")
    )
    assert tiny < both < base
