"""Wrong command lines: each is one sentence and exit code 2, by either door, and never a traceback."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import sagerank.cli
import sagerank_cost.__main__

# A command line, and what its sentence says. {folder} has files that are wrong.
WRONG = {
    # Names.
    "--region eu-west-9": "did you mean eu-west-",
    "--region all --region us-east-1": "There is no region with known prices 'all'",
    "--instance ml.c7i.big": "did you mean ml.c7i.",
    "--instance ml.inf2.xlarge": "has an accelerator that none of our models runs on",
    "--instance ml.c7i.large --region ap-south-1 --instance ml.p5.48xlarge": "No hosting price",
    "--model turb": "did you mean turbo",
    "--model tiny>": "There is no model ''",
    "--model tiny>tiny@5": "a model twice",
    "--model tiny@5": "@ goes with a later stage",
    "--model tiny>base@-5": "@ goes with a later stage",
    "--model tiny>turbo@5>base@9": "keep fewer from stage to stage",
    "--precision fp8": "There is no precision 'fp8'",
    "--mode real-time": "did you mean realtime",
    "--service jina": "did you mean jina-reranker",
    "--preset test": "There is no preset 'test'",
    "--format pdf": "There is no format 'pdf'",
    "fit --model big": "There is no model 'big'",
    "fit --precision half": "There is no precision 'half'",
    "fit --region moon": "There is no region",
    "compare --region moon": "There is no region",
    "breakeven --service x": "There is no service 'x'",
    "simulate --instance c7i.large": "did you mean ml.c7i.large",
    "measure --endpoint e --instance ml.x --model tiny": "There is no SageMaker hosting instance",
    "measure --endpoint e --instance ml.c7i.large --model x": "There is no model 'x'",
    "measure --endpoint e --instance ml.c7i.large --model tiny --precision x": "There is no precision 'x'",
    "report reprot": "reprot",
    "reprot": "reprot",
    "--rates=5": "--rates",
    "--mod=tiny": "--mod",
    # Numbers that are none, or make no sense.
    "--rate nan": "--rate is 'nan': give a number from 1e-09 to 1e+09",
    "--rate inf": "--rate is 'inf'",
    "--rate -3": "--rate is '-3'",
    "--rate 0": "--rate is '0'",
    "--rate 1e10": "--rate is '1e10'",
    "--rate 1e999": "--rate is '1e999'",
    "--rate 1_000": "--rate is '1_000'",
    "--rate five": "--rate is 'five'",
    "--rate ٣": "--rate is '٣'",
    "--rate 1,5": "--rate is '1,5'",
    "--rate": "--rate",
    "--rate ''": "--rate is empty: give it a value, or leave it out",
    "--rate ' '": "--rate is empty",
    "--swing 1.5": "give a number from 0 to 1",
    "--swing nan": "--swing is 'nan'",
    "--swing -0.1": "--swing is '-0.1'",
    "--documents 0": "give a whole number from 1 to 100,000",
    "--documents 1.5": "--documents is '1.5'",
    "--documents -7": "--documents is '-7'",
    "--documents 99999999999999999999": "--documents is",
    f"--documents {'9' * 5000}": "...'",
    "--tokens 0": "--tokens is '0'",
    "--tokens 9000": "--tokens is '9000': give a whole number from 1 to 8,192",
    "--tokens 600 --max-tokens 512": "A document has 600 tokens with its query, and --max-tokens is 512",
    "--variation 3": "--variation is '3'",
    "--variation nan": "--variation is 'nan'",
    "--variation -1": "--variation is '-1'",
    "--p95 0": "give seconds above 0",
    "--p95 nan": "--p95 is 'nan'",
    "--p95 -1": "--p95 is '-1'",
    "--p95 -inf": "--p95",
    "--p95 1e9": "--p95 is '1e9'",
    "--min-ndcg nan": "--min-ndcg is 'nan'",
    "--min-ndcg 101": "--min-ndcg is '101'",
    "--min-ndcg good": "--min-ndcg is 'good'",
    "--min-instances -1": "--min-instances is '-1'",
    "--min-instances 0": "0 to 20 instances",
    "--min-instances 30": "30 to 20 instances",
    "--max-instances 0": "--max-instances is '0'",
    "--max-instances 1e6": "--max-instances is '1e6'",
    "--max-tokens 0": "--max-tokens is '0'",
    "--max-tokens 8193": "--max-tokens is '8193'",
    "fit --max-tokens nan": "--max-tokens is 'nan'",
    "--confidence 0": "--confidence is '0': give a number from 1 to 99",
    "--confidence 100": "--confidence is '100'",
    "--confidence 0.95": "--confidence is '0.95'",
    "--confidence nan": "--confidence is 'nan'",
    "--cold-start nan": "--cold-start is 'nan'",
    "--cold-start -1": "--cold-start is '-1'",
    "simulate --cold-start inf": "--cold-start is 'inf'",
    "simulate --seed -1": "give a whole number from 0 to 4,294,967,295",
    "simulate --seed 1.5": "--seed is '1.5'",
    "simulate --seed 4294967296": "--seed is '4294967296'",
    "simulate --minutes 0": "--minutes is '0'",
    "simulate --minutes nan": "--minutes is 'nan'",
    "simulate --minutes 1000000000": "--minutes is '1000000000'",
    "simulate --rate 30000 --max-instances 10000 --model tiny --instance ml.g6.xlarge": "give fewer --minutes",
    # Money.
    "--price ml.c7i.large": "give NAME=USD",
    "--price ml.c7i.large=": "give NAME=USD",
    "--price =1": "give NAME=USD",
    "--price ml.c7i.large=cheap": "US dollars as a number",
    "--price ml.c7i.large=-1": "above 0",
    "--price ml.c7i.large=0": "above 0",
    "--price ml.c7i.large=nan": "as a number",
    "--price ml.c7i.large=snan": "as a number",
    "--price ml.c7i.large=inf": "as a number",
    "--price ml.c7i.large=1e999999": "as a number",
    "--price x=nan": "as a number",
    "--price x=1": "There is no instance type or service 'x'",
    "--price ml.c7i.large=1 --price ml.c7i.large=2": "given twice for one name",
    "--price ml.c7i.large=1 --instance ml.m5.xlarge": "has no effect without --instance ml.c7i.large",
    "--price cohere-rerank=1 --service jina-reranker": "has no effect without --service cohere-rerank",
    "compare --price cohere-rerank=1": "report or breakeven compares with services",
    "--max-monthly much": "give US dollars as a number",
    "--max-monthly nan": "--max-monthly is 'nan'",
    "--max-monthly -1": "--max-monthly is '-1'",
    "--max-monthly inf": "--max-monthly is 'inf'",
    "--max-monthly 1e999999": "--max-monthly is '1e999999'",
    "--discount 100": "give a percent from 0 to 99",
    "--discount -5": "--discount is '-5'",
    "--discount nan": "--discount is 'nan'",
    "--discount ten": "--discount is 'ten'",
    "--discount saving-plan=30": "did you mean savings-plan",
    "--discount savings-plan=": "--discount is 'savings-plan='",
    "--discount 5 --discount 10": "The discount edp is given twice",
    # Files.
    "--log /nowhere.csv": "cannot be read: No such file or directory",
    "--log {folder}": "cannot be read: Is a directory",
    "--log ''": "--log is empty",
    "--log $'a\\nb'": "without line ends",
    "--log {folder}/utf16.csv": "is not UTF-8 text: where it is UTF-16",
    "--log {folder}/latin1.csv": "it is not UTF-8 text. Save it as CSV UTF-8",
    "--log {folder}/quote.csv": "is not a table of cells",
    "--log {folder}/long.csv": "is not a table of cells",
    "--log {folder}/empty.csv": "lacks the column time, documents, tokens",
    "--log {folder}/twice.csv": "has a column twice",
    "--log {folder}/ragged.csv": "ragged.csv:3: the row has another number of cells",
    "--log {folder}/header.csv": "holds no request",
    "--log {folder}/nan.csv": "nan.csv:2:",
    "--log /dev/zero": "is not UTF-8 text",
    "--data /nowhere": "cannot be read",
    "--data {folder}": "cannot be read",
    "--data {folder}/empty.csv": "cannot be read",
    "--data ''": "--data is empty",
    "fit --data /nowhere": "cannot be read",
    "fit --output {folder}": "cannot be written: Is a directory",
    "fit --output /nowhere/report.txt": "cannot be written",
    "fit --output /dev/full": "cannot be written: No space left on device",
    "fit --output ''": "--output is empty",
    "diff": "old, new",
    "diff {folder}": "new",
    "diff {folder} {folder}": "holds no *.template.json",
    "diff /nowhere /nowhere": "/nowhere",
    "diff {folder}/empty.csv {folder}/empty.csv": "is not JSON",
    "diff a b --region us-east-1 --region us-east-2": "diff takes one --region, and 2 was given",
    "--scenarios /nowhere.csv": "cannot be read",
    "--scenarios {folder}/header.csv": "has 0 rows under its header",
    "--scenarios {folder}/column.csv": "column.csv 'p59': did you mean p95",
    "--scenarios {folder}/cell.csv": "cell.csv:3: --rate is 'fast'",
    "--scenarios {folder}/cell.csv --rate 5": "--rate is a column of",
    "--scenarios {folder}/names.csv": "names.csv:2: There is no model 'big'",
    "--scenarios {folder}/cell.csv --service jina-reranker": "--scenarios stands in place of --service",
    # What would have no effect.
    "fit --seed 3": "--seed has no effect on fit: leave it out; simulate takes it",
    "--seed 3 fit": "--seed has no effect on fit",
    "--minutes 60": "--minutes has no effect on report",
    "compare --minutes 60": "simulate takes it",
    "compare --service jina-reranker": "report or breakeven takes it",
    "fit --rate 5": "report, compare, simulate or breakeven takes it",
    "fit --instance ml.c7i.large": "--instance has no effect on fit",
    "fit --cold-start 5": "--cold-start has no effect on fit",
    "fit --max-monthly 1": "--max-monthly has no effect on fit",
    "refresh --max-monthly 1": "--max-monthly has no effect on refresh",
    "measure --max-monthly 1": "--max-monthly has no effect on measure",
    "refresh --format json": "--format has no effect on refresh",
    "measure --explain": "--explain has no effect on measure",
    "diff a b --model tiny": "--model has no effect on diff",
    "--yes": "--yes has no effect on report",
    "--endpoint x": "measure takes it",
    "simulate --scenarios x.csv": "report takes it",
    "--log x.csv --rate 5": "--log stands in place of --rate",
    "--log x.csv --swing 0 --tokens 5": "--log stands in place of --swing, --tokens",
    "compare --variation 1 --log x.csv --documents 3": "--log stands in place of --documents, --variation",
    "--mode serverless --instance ml.c7i.large": "has no effect with mode serverless",
    "--mode realtime --instance 4096": "is a serverless memory, and the mode realtime",
    "--instance 1500": "Serverless memory is one of",
    "--mode realtime --cold-start 3": "--cold-start has no effect with mode realtime",
    "--mode serverless --max-instances 3": "--max-instances has no effect with mode serverless",
    "--mode async --min-instances 3": "--min-instances has no effect with mode async",
    "--rate 1 --rate 2": "--rate is given 2 times: give it once",
    "--rate 1 compare --rate 2": "--rate is given 2 times",
    "--format json --format csv": "--format is given 2 times",
    # At AWS.
    "measure": "Give --endpoint NAME",
    "measure --endpoint e": "--from FILE, and --instance TYPE and --model NAME once",
    "measure --endpoint e --instance ml.c7i.large": "Give --endpoint NAME",
    "measure --endpoint e --instance ml.c7i.large --model tiny --model base": "measure takes one --model",
    "measure --endpoint e --instance ml.c7i.large --model tiny --tokens 0": "--tokens is '0'",
    "measure --endpoint-url nowhere": "give a URL",
    "refresh --endpoint-url ftp://x": "give a URL",
}  # fmt: skip
DOORS = {"sagerank": lambda words: sagerank.cli.main(["cost", *words]), "cost": sagerank_cost.__main__.main}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that nothing can be made of."""
    folder = tmp_path_factory.mktemp("wrong")
    head = "time,documents,tokens\n"
    files = {
        "utf16.csv": f"{head}0,1,2\n".encode("utf-16"),
        "latin1.csv": f"{head}0,1,é\n".encode("latin-1"),
        "quote.csv": f'{head}0,1,"2\n'.encode(),
        "long.csv": f"{head}0,1,{'2' * 200_000}\n".encode(),
        "empty.csv": b"",
        "twice.csv": b"time,documents,tokens,time\n0,1,2,3\n",
        "ragged.csv": f"{head}0,1,2\n1,2\n".encode(),
        "header.csv": head.encode(),
        "nan.csv": f"{head}nan,1,2\n".encode(),
        "column.csv": b"name,p59\na,1\n",
        "cell.csv": b"name,rate\na,1\nb,fast\n",
        "names.csv": b"name,model\na,tiny;big\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def words(line: str, folder: Path) -> list[str]:
    return [word.replace("{folder}", str(folder)) for word in shlex.split(line.replace("$'a\\nb'", "'a\nb'"))]


def test_there_are_enough() -> None:
    assert len(WRONG) >= 105


# Both doors read a line alike: all lines come by one, and a few by the other.
@pytest.mark.parametrize(
    ("door", "line"),
    [*(("cost", line) for line in WRONG), *(("sagerank", line) for line in list(WRONG)[::8])],
    ids=lambda text: text[:60],
)
def test_a_wrong_line_is_one_sentence(
    door: str, line: str, wrong: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code: object
    try:
        code = DOORS[door](words(line, wrong))
    except SystemExit as ended:
        code = ended.code
    shown = capsys.readouterr()
    assert code == 2, shown.out[:500]
    assert shown.err.count("\n") == 1
    assert shown.err.startswith((f"{door}: ", f"{door} cost"))
    assert WRONG[line] in shown.err
    assert shown.out == ""
