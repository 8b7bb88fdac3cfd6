"""DeployConfig: what is read, and the sentence for everything that cannot be deployed."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from sagerank_inference import quiet
from sagerank_inference.archive import pack
from sagerank_inference.settings import Settings
from sagerank_infra import fitting, rules
from sagerank_infra.app import main
from sagerank_infra.config import ConfigError, DeployConfig, json_schema
from sagerank_infra.environment import environment, max_tokens
from sagerank_infra.options import read

from .synth import EXAMPLES, example

BASE = {"model": "tiny", "artefact": "s3://bucket-of-models/tiny/model.tar.gz"}
REALTIME = {**BASE, "mode": "realtime", "instance": "ml.c7i.xlarge"}


def config(**options: Any) -> DeployConfig:
    """Of real time; two underscores for a dot."""
    given = {name.replace("__", "."): text for name, text in options.items()}
    return rules.read(None, {**REALTIME, **given})


def refused(options: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        rules.read(None, options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_model_mode_and_instance_are_enough(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(archive.parent)
    found = rules.read(None, {"model": "micro", "mode": "realtime", "instance": "ml.c7i.large"})
    assert (found.name, found.region, found.account, found.artefact) == (
        "sagerank",
        "us-east-1",
        "",
        "model.tar.gz",
    )
    assert (found.vpc, found.autoscaling.min, found.capture.percent) == ("new", 1, 0)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().mode = "async"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config(tags='{"team": "search"}').tags["team"] = "x"  # type: ignore[index]


FILES = {
    "c.yaml": 'mode: realtime\ninstance: ml.c7i.xlarge\naccount: 123456789012\nautoscaling: {max: 6, schedules: [{name: night, cron: "cron(0 22 * * ? *)"}]}\n',
    "c.toml": 'mode = "realtime"\ninstance = "ml.c7i.xlarge"\naccount = "123456789012"\n[autoscaling]\nmax = 6\n[[autoscaling.schedules]]\nname = "night"\ncron = "cron(0 22 * * ? *)"\n',
    "c.json": '{"mode": "realtime", "instance": "ml.c7i.xlarge", "account": 123456789012, "autoscaling": {"max": 6, "schedules": [{"name": "night", "cron": "cron(0 22 * * ? *)"}]}}',
}


@pytest.mark.parametrize("name", FILES)
def test_yaml_toml_and_json_say_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    found = rules.read(tmp_path / name, BASE)
    assert (found.account, found.autoscaling.max, found.autoscaling.schedules[0].name) == (
        "123456789012",
        6,
        "night",
    )


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("preset: prod\nautoscaling: {max: 6}\nlog_days: 30\n", encoding="utf-8")
    found = rules.read(file, {**REALTIME, "log_days": "14"})
    assert (found.autoscaling.min, found.autoscaling.max, found.log_days) == (2, 6, 14)
    assert (found.removal, found.rollout.policy) == ("retain", "canary")


def test_lists_and_mappings_come_on_the_command_line_as_json_or_with_commas() -> None:
    found = config(
        variants='[{"name": "Shadow", "weight": 1, "shadow": true}]',
        alarms__email="a@example.com, b@example.com",
        settings__max_tokens="2048",
        tags='{"team": "search"}',
        capture='{"percent": 5}',
    )
    assert found.variants[0].shadow
    assert found.alarms.email == ("a@example.com", "b@example.com")
    assert dict(found.settings) == {"max_tokens": "2048"}
    assert (dict(found.tags), found.capture.percent, max_tokens(found)) == ({"team": "search"}, 5, 2048)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instanc": "x"}, "instanc is not an option: did you mean instance?"),
        ({"autoscaling.mx": "3"}, "autoscaling.mx is not an option: did you mean max?"),
        ({"variants": '[{"nam": "x"}]'}, "variants[0].nam is not an option: did you mean name?"),
        (
            {"settings.max_tokns": "3"},
            "settings: SAGERANK_MAX_TOKNS is not a setting: did you mean SAGERANK_MAX_TOKENS?",
        ),
        ({"autoscaling": "3"}, "autoscaling is 3: give options such as min, max, target, scale_in_seconds."),
        (
            {"variants": "[{"},
            "variants is '[{', which is not JSON (Expecting property name enclosed in double quotes: line 1 column 3 (char 2)).",
        ),
        (
            {"autoscaling.max": "6", "autoscaling": "{}"},
            "autoscaling.max is given beside autoscaling, which holds it: give one of them.",
        ),
        ({"preset": "test"}, "preset is 'test': give one of dev, prod."),
        (
            {"instance": "ml.c7i.xlarg"},
            "instance is 'ml.c7i.xlarg', which SageMaker does not have for endpoints: did you mean ml.c7i.xlarge?",
        ),
    ],
)
def test_what_is_not_known_gets_the_nearest_name(options: dict[str, str], sentence: str) -> None:
    assert refused({**REALTIME, **dict(reversed(options.items()))}) == sentence


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("c.yaml", "mode: [", "is malformed: while parsing"),
        ("c.toml", "mode = ", "is malformed: Invalid value"),
        ("c.json", "{", "is malformed: Expecting property name"),
        ("c.json", "[]", "is []: give options such as mode"),
        ("c.ini", "", "is named neither .yaml, .toml nor .json"),
        (None, "", "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(
    name: str | None, text: str, sentence: str, tmp_path: Path
) -> None:
    if name:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        rules.read(tmp_path / (name or "none.yaml"), REALTIME)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def leaves(kind: type, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, type and facts of every single option. Items of lists are given as JSON."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = f"{where}{field.name}", hints[field.name]
        if get_origin(hint) is tuple:
            item = get_args(hint)[0]
            if isinstance(item, type) and dataclasses.is_dataclass(item):
                yield from leaves(item, f"{name}[0].")
            else:
                yield name, item, field.metadata
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{name}.")
        elif get_origin(hint) is None:
            yield name, hint, field.metadata


def wrong_values() -> Iterator[tuple[str, Any]]:
    """A value of the wrong type for every option, and one beyond each of its limits."""
    for name, hint, facts in leaves(DeployConfig):
        if hint is not str:
            yield name, "many"
        if facts["choices"] or facts["pattern"]:
            yield name, "!"
        if facts["low"] is not None:
            yield name, str(hint(facts["low"] - 1))
        if facts["high"] is not None:
            yield name, str(hint(facts["high"] + 1))
        if hint is float:
            yield name, "nan"


@pytest.mark.parametrize(("name", "value"), list(wrong_values()), ids=lambda part: str(part))
def test_a_wrong_value_of_any_option_is_named_with_what_is_allowed(name: str, value: str) -> None:
    options: dict[str, Any] = dict(REALTIME)
    if "[0]." in name:
        outer, _, inner = name.partition("[0].")
        # The rest of the item is right, so that it is this value that is refused.
        good: dict[str, dict[str, object]] = {
            "pools": {"instance": "ml.c6i.xlarge"},
            "schedules": {"name": "n", "cron": "cron(0 1 * * ? *)"},
            "variants": {"name": "n", "weight": 1},
            "components": {"name": "n"},
        }
        item = {**good.get(outer.rpartition(".")[2], {}), inner: value}
        options[outer] = json.dumps([item])
    else:
        options[name] = value
    sentence = refused(options)
    assert sentence.startswith(f"{name} is ") or sentence.startswith(f"{name}[0] is "), sentence
    assert repr(value) in sentence or f"is {float(value):g}:" in sentence or f"is {value}:" in sentence, (
        sentence
    )
    assert ": give " in sentence, sentence


ARM_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagerank:1.0-arm64"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/jina"
TRAPS: list[tuple[dict[str, str], str]] = [
    ({"mode": "serverless"}, "instance is 'ml.c7i.xlarge': serverless has no instance types and no GPUs"),
    (
        {"mode": "serverless", "instance": "", "network.vpc": "new"},
        "network.vpc is 'new': serverless endpoints cannot be in a VPC",
    ),
    (
        {"mode": "serverless", "instance": "", "artefact": "s3://models/tiny/"},
        "serverless takes no uncompressed model data",
    ),
    (
        {"mode": "serverless", "instance": "", "capture.percent": "1"},
        "capture.percent is 1: serverless endpoints have no data capture",
    ),
    (
        {"mode": "serverless", "instance": "", "serverless.memory_mb": "3000"},
        "serverless.memory_mb is 3000: give 1024, 2048",
    ),
    (
        {"mode": "serverless", "instance": "", "serverless.provisioned": "11"},
        "give at most serverless.max_concurrency, which is 10",
    ),
    (
        {"mode": "serverless", "instance": "", "serverless.provisioned": "5", "autoscaling.min": "1"},
        "autoscaling.min is 1, and serverless.provisioned is 5, which stays warm: give the same",
    ),
    (
        {"mode": "serverless", "instance": "", "serverless.provisioned": "5", "autoscaling": '{"max": 4}'},
        "autoscaling.max is 4: give serverless.provisioned, which is 5, to serverless.max_concurrency, which is 10",
    ),
    (
        {"mode": "serverless", "instance": "", "serverless.provisioned": "5", "autoscaling.max": "20"},
        "autoscaling.max is 20: give serverless.provisioned, which is 5, to serverless.max_concurrency",
    ),
    (
        {
            "mode": "serverless",
            "instance": "",
            "model": "base",
            "settings.max_tokens": "30000",
            "serverless.memory_mb": "1024",
        },
        "serverless.memory_mb is 1024: base needs ",
    ),
    (
        {"mode": "serverless", "instance": "", "settings.max_body_bytes": "5000000"},
        "a request to mode serverless has at most 4194304 bytes",
    ),
    (
        {"mode": "serverless", "instance": "", "autoscaling.target": "30"},
        "it is the share of provisioned concurrency in use",
    ),
    (
        {
            "mode": "serverless",
            "instance": "",
            "autoscaling.schedules": '[{"name": "n", "cron": "rate(1 day)"}]',
        },
        "autoscaling.schedules need serverless.provisioned",
    ),
    ({"instance": ""}, "instance is empty: mode realtime needs a hosting type"),
    ({"autoscaling.min": "0"}, "autoscaling.min is 0: mode realtime cannot scale to zero"),
    ({"autoscaling.min": "5"}, "autoscaling.min is 5, more than autoscaling.max, which is 4"),
    (
        {
            "autoscaling.schedules": '[{"name": "n", "cron": "rate(1 day)"}, {"name": "n", "cron": "rate(2 days)"}]'
        },
        "autoscaling.schedules[0].name is 'n', as another's is",
    ),
    (
        {"autoscaling.schedules": '[{"name": "n", "cron": "rate(1 day)", "timezone": "Mars/Olympus"}]'},
        "autoscaling.schedules[0].timezone is 'Mars/Olympus': give a name",
    ),
    (
        {"autoscaling.schedules": '[{"name": "n", "cron": "rate(1 day)", "min": 0}]'},
        "autoscaling.schedules[0].min is 0: mode realtime cannot",
    ),
    ({"instance": "ml.t3.medium"}, "which SageMaker does not have for endpoints: did you mean ml.t2.medium?"),
    ({"instance": "ml.c8g.xlarge", "mode": "batch"}, "which SageMaker does not have for transform jobs"),
    ({"instance": "ml.inf2.xlarge"}, "nothing of ours runs on"),
    ({"instance": "ml.p2.xlarge"}, "instance is 'ml.p2.xlarge': There is no SageMaker hosting instance"),
    (
        {"model": "base", "instance": "ml.c8g.medium", "settings.max_tokens": "20000"},
        "take a larger type, or lower settings.max_tokens",
    ),
    (
        {"image": ARM_IMAGE},
        "built for arm64, and ml.c7i.xlarge is amd64: give an image for amd64, or an instance such as ml.c8g.xlarge",
    ),
    (
        {
            "image": ARM_IMAGE.replace("-arm64", ""),
            "image_architecture": "amd64",
            "instance": "ml.c8g.xlarge",
        },
        "built for amd64, and ml.c8g.xlarge is arm64",
    ),
    (
        {"image": ARM_IMAGE, "instance": "ml.c8g.xlarge", "image_build.base": "python:3.11"},
        "image_build.base is 'python:3.11', and image is",
    ),
    ({"image_build.pip": "no/pip.conf"}, "image_build.pip is 'no/pip.conf': there is no such file."),
    (
        {"image": "dlc", "instance": "ml.c8g.xlarge"},
        "image is 'dlc', and AWS has no container for ml.c8g.xlarge",
    ),
    (
        {"image": ARM_IMAGE.replace("us-east-1", "eu-west-1"), "instance": "ml.c8g.xlarge"},
        "image is in eu-west-1, and region is 'us-east-1'",
    ),
    ({"encryption.key": KEY}, "encryption.key is in eu-west-1, and region is 'us-east-1'"),
    (
        {"precision": "fp16", "instance": "ml.g5.xlarge"},
        "precision is 'fp16': give bf16 (GPU, Graviton3 and later), fp32 or int8 (CPU); of fp16 no speed is known",
    ),
    (
        {"precision": "bf16"},
        "precision is 'bf16', which ml.c7i.xlarge does not compute in: give fp32 or int8",
    ),
    ({"precision": "bf16", "instance": "ml.c6g.xlarge"}, "which ml.c6g.xlarge does not compute in"),
    (
        {"precision": "bf16", "instance": "ml.c7g.xlarge", "pools": '[{"instance": "ml.c6g.xlarge"}]'},
        "which ml.c6g.xlarge does not compute in: give fp32 or int8",
    ),
    (
        {"precision": "bf16", "mode": "serverless", "instance": ""},
        "which serverless does not compute in: give fp32 or int8",
    ),
    (
        {"precision": "bf16", "instance": "ml.g4dn.xlarge"},
        "precision is 'bf16', which ml.g4dn.xlarge does not compute in: give fp32",
    ),
    (
        {"rollout.policy": "canary"},
        "rollout.policy is 'canary' with autoscaling.min 1: one instance cannot be shifted in parts",
    ),
    (
        {"rollout.policy": "canary", "autoscaling.min": "3", "rollout.percent": "20"},
        "less than one of 3 instances: give at least 34",
    ),
    (
        {
            "rollout.policy": "linear",
            "autoscaling.min": "40",
            "autoscaling.max": "50",
            "rollout.percent": "5",
        },
        "a step of linear is 10 to 50 percent",
    ),
    (
        {"rollout.policy": "canary", "autoscaling.min": "2", "rollout.wait_seconds": "3500"},
        "rollout.timeout_seconds is 3600, and an update waits 3620 s in all",
    ),
    (
        {"rollout.wait_seconds": "500", "rollout.timeout_seconds": "600"},
        "rollout.timeout_seconds is 600, and an update waits 620 s in all",
    ),
    (
        {
            "rollout.policy": "linear",
            "autoscaling.min": "8",
            "autoscaling.max": "8",
            "rollout.wait_seconds": "600",
            "rollout.termination_seconds": "600",
        },
        "rollout.timeout_seconds is 3600, and an update waits 5400 s in all",
    ),
    (
        {
            "rollout.policy": "rolling",
            "autoscaling.min": "4",
            "rollout.wait_seconds": "900",
            "rollout.termination_seconds": "0",
        },
        "an update waits 3600 s in all",
    ),
    (
        {"mode": "scale-to-zero", "autoscaling.max": "20"},
        "rollout.timeout_seconds is 3600, and an update waits 6000 s in all",
    ),
    (
        {"rollout.policy": "canary", "mode": "scale-to-zero"},
        "mode scale-to-zero is updated all-at-once by AWS",
    ),
    (
        {"rollout.policy": "rolling", "autoscaling.min": "2", "variants": '[{"name": "B", "weight": 1}]'},
        "which AWS excludes for several variants",
    ),
    ({"settings.max_body_bytes": "25000000"}, "a request to mode realtime has at most 6291456 bytes"),
    ({"settings.request_seconds": "60"}, "SageMaker gives up after 60 s in mode realtime"),
    ({"settings.backend": "tensorrt"}, "settings: SAGERANK_BACKEND is 'tensorrt': give onnx or torch."),
    ({"network.vpc": "vpc-1"}, "give network.subnets and network.security_groups of it too"),
    ({"network.subnets": "subnet-1"}, "belong to a VPC of yours"),
    (
        {"mode": "batch", "capture.percent": "10"},
        "capture.percent is 10: mode batch has no endpoint whose requests could be captured; its input and output are in S3 already",
    ),
    (
        {"instance": "ml.g5.xlarge", "ami": "al2023-ami-sagemaker-inference-gpu-4-2"},
        "which SageMaker does not have for GPUs: did you mean al2023-ami-sagemaker-inference-gpu-4-1?",
    ),
    (
        {"instance": "ml.g5.xlarge", "ami": "al2-ami-sagemaker-inference-neuron-2"},
        "ami is 'al2-ami-sagemaker-inference-neuron-2', which SageMaker does not have for GPUs",
    ),
    ({"network.endpoints": "ecr"}, "network.endpoints is 'ecr': give one of runtime"),
    (
        {"network.endpoints": "runtime"},
        "network.vpc is 'new', where nobody calls: give the id of your callers' VPC",
    ),
    (
        {
            "network.vpc": "vpc-1",
            "network.subnets": "subnet-1",
            "network.security_groups": "sg-1",
            "network.endpoints": "runtime",
        },
        "network.callers []: give both",
    ),
    (
        {"pools": '[{"instance": "ml.c8g.xlarge"}]'},
        "pools[0].instance is 'ml.c8g.xlarge', which needs another image than ml.c7i.xlarge",
    ),
    (
        {"pools": '[{"instance": "ml.c6i.xlarge"}, {"instance": "ml.m7i.large"}]'},
        "pools has an instance type or a priority twice",
    ),
    (
        {"pools": '[{"instance": "ml.c6i.xlarge"}]', "mode": "batch"},
        "pools are for modes realtime, async and scale-to-zero",
    ),
    (
        {"pools": '[{"instance": "ml.c6i.xlarge"}]', "variants": '[{"name": "B", "weight": 1}]'},
        "variants and pools exclude each other",
    ),
    (
        {"variants": '[{"name": "B", "weight": 1}]', "mode": "async"},
        "variants are for mode realtime, and mode is 'async'",
    ),
    ({"variants": '[{"name": "AllTraffic", "weight": 1}]'}, "variants has the name 'AllTraffic' twice"),
    ({"variants": '[{"name": "B"}]'}, "the weight of 'B' is 0"),
    (
        {"variants": '[{"name": "B", "weight": 1, "shadow": true}, {"name": "C", "weight": 1}]'},
        "a shadow stands beside one production variant only",
    ),
    ({"mode": "marketplace", "model": "base"}, "model_package is empty"),
    ({"mode": "marketplace", "model_package": PACKAGE}, "model is 'tiny': AWS Marketplace has Base"),
    (
        {"mode": "marketplace", "model": "base", "model_package": PACKAGE, "settings.threads": "2"},
        "settings are for our own server",
    ),
    ({"model_package": PACKAGE}, "which only mode marketplace uses"),
    (
        {"artefact": "nowhere/model.tar.gz"},
        "which is no file here: make it with `sagerank build --model tiny --output nowhere/model.tar.gz`",
    ),
]


@pytest.mark.parametrize(("options", "words"), TRAPS, ids=[words[:40] for _, words in TRAPS])
def test_traps_are_refused_in_a_sentence(options: dict[str, str], words: str) -> None:
    assert words in refused({**REALTIME, **options})


def test_every_example_is_accepted_with_every_preset() -> None:
    """Guards the table above: it is the trap that is refused, not what stands round it."""
    for name in EXAMPLES:
        for preset in ("dev", "prod"):
            example(name, preset)


def test_an_artefact_is_looked_into(archive: Path, tmp_path: Path) -> None:
    local = {**REALTIME, "artefact": str(archive)}
    rules.read(None, {**local, "model": "micro"})
    assert "4.5M parameters, and tiny has " in refused(local)
    assert "without the code/ that image dlc needs: build it with --code." in refused(
        {**local, "model": "micro", "image": "dlc"}
    )
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(b"no archive")
    assert "cannot be unpacked (Not a gzipped file" in refused({**local, "artefact": str(bad)})
    pack({"a": b"b"}, bad)
    assert "which holds no manifest.json" in refused({**local, "artefact": str(bad)})


def test_types_come_from_botocores_own_list() -> None:
    known = fitting.instance_types()
    assert {"ml.c7i.large", "ml.c8g.large", "ml.g5.xlarge"} <= set(known)
    assert "ml.t3.medium" not in known
    assert len(known) > 200


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "marketplace"])
def test_the_container_reads_the_settings_that_were_written(name: str) -> None:
    """And none beside them: those that a default fills in, such as the cores, are the container's own."""
    deployed = example(name, settings__max_tokens="4096", settings__overlap_tokens="64")
    written = environment(deployed)
    settings = Settings.from_env(written)
    assert (settings.max_tokens, settings.overlap_tokens) == (4096, 64)
    assert {key: text for key, text in settings.to_env().items() if key in written} == written
    assert "SAGERANK_THREADS" not in written
    assert (settings.backend, settings.device) == (("torch", "cuda") if name == "gpu" else ("onnx", "cpu"))


def test_awss_container_runs_the_handler_on_pytorch() -> None:
    written = environment(config(image="dlc"))
    assert written["SAGEMAKER_PROGRAM"] == "sagerank_inference.handler"
    assert written["SAGERANK_BACKEND"] == "torch"


def test_an_image_that_is_not_ours_is_told_to_report_nothing() -> None:
    for image in ("dlc", "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagerank:1-amd64"):
        assert quiet.CONTAINER.items() <= environment(config(image=image)).items()
    assert not quiet.CONTAINER.keys() & environment(config(image="dockerfile")).keys()


def test_the_schema_describes_every_option() -> None:
    def described(schema: dict[str, Any]) -> None:
        assert schema["additionalProperties"] is False
        for name, each in schema["properties"].items():
            assert each["description"], name
            inner = each.get("items", each)
            if "properties" in inner:
                described(inner)

    schema = json_schema()
    described(schema)
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(DeployConfig)}
    assert schema["properties"]["mode"]["enum"][0] == "realtime"
    assert schema["properties"]["autoscaling"]["properties"]["min"]["minimum"] == 0


def test_the_schemas_defaults_are_a_configuration() -> None:
    def defaults(schema: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, each in schema["properties"].items():
            if "default" in each:
                found[name] = each["default"]
            elif "properties" in each:
                found[name] = defaults(each)
        return found

    assert read(DeployConfig, {**defaults(json_schema()), **REALTIME}) == config()


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("mode=serverles", "sagerank: mode is 'serverles': did you mean serverless?"),
        ("mode=fast", "sagerank: mode is 'fast': give one of realtime, serverless"),
        ("mode", "-c mode has no value: give OPTION=VALUE"),
    ],
)
def test_the_command_refuses_in_one_line_and_writes_nothing(
    option: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-c", option, "--output", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert not list(tmp_path.glob("out/*.json"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget.monthly_usd": "inf"}, "budget.monthly_usd is 'inf': give a number"),
        ({"autoscaling.target": "nan"}, "autoscaling.target is 'nan': give a number"),
        ({"account": "١٢٣٤٥٦٧٨٩٠١٢"}, "account is"),
        ({"network.cidr": "999.1.1.1/16"}, "network.cidr is '999.1.1.1/16'"),
        ({"tags": '{"sagerank:name": "other"}'}, "tags has 'sagerank:name'"),
        ({"tags": '{"aws:x": "y"}'}, "tags has 'aws:x'"),
        (
            {"variants": '[{"name": "a-b", "weight": 1}, {"name": "ab", "weight": 1}]'},
            "a-b and ab, which differ in hyphens alone",
        ),
        (
            {"variants": str([{"name": f"v{n}", "weight": 1} for n in range(10)]).replace("'", '"')},
            "variants has 10: SageMaker and its alarms take 9",
        ),
        (
            {
                "mode": "scale-to-zero",
                "components": str(
                    [{"name": f"c{n}", "artefact": "s3://m/model.tar.gz"} for n in range(31)]
                ).replace("'", '"'),
            },
            "components has 31",
        ),
    ],
)
def test_what_only_the_cdk_or_aws_would_stumble_over_is_a_sentence(
    options: dict[str, str], said: str
) -> None:
    given = {"instance": "ml.c7i.xlarge", "artefact": "s3://models/tiny/model.tar.gz", **options}
    with pytest.raises(ConfigError, match=re.escape(said)):
        rules.read(None, given)
