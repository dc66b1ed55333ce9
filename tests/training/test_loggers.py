import json
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from brcd_lightning.config import build, check
from brcd_lightning.errors import InputError
from brcd_lightning.training.loggers import LogContext, close_loggers, lightning_logger, wandb_logger
from conftest import ROOT, TINY, run_command
from test_configs import composed
from wandb_log import read_records

LABELS = {"dataset": "digits", "hashing_model": "cibhash", "kd_method": "brcd", "paradigm": "sshp"}
LABELS |= {"teacher": "vit_b_16", "student": "efficientnet_b0"}


def context(run_dir, stage="student"):
    return LogContext(run_dir, stage, LABELS, 64, 3, {"kd_method": {"alpha": 0.8}, "bits": 64})


def test_wandb_offline_keeps_what_dashboards_group_by(tmp_path):
    logger = wandb_logger(context(tmp_path), project="p", offline=True)
    logger.log_metrics({"val/map_sshp": 0.5, "epoch": 0})
    logger.log_metrics({"val/map_sshp": 0.4, "epoch": 1})
    close_loggers()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    records = read_records(folder)
    run = next(record.run for record in records if record.HasField("run"))
    assert run.run_group.startswith("digits/cibhash/vit_b_16>efficientnet_b0/brcd/64b/")
    assert run.job_type == "student"
    assert run.run_id == context(tmp_path).id
    assert {"digits", "brcd", "sshp", "64b"} <= set(run.tags)
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["kd_method"] == {"alpha": 0.8}
    metrics = [record.metric for record in records if record.HasField("metric")]
    watched = next(metric for metric in metrics if metric.name == "val/map_sshp")
    assert watched.summary.max
    assert [record for record in records if record.HasField("exit")]


def test_a_long_name_fits_a_tag_of_wandb(tmp_path):
    named = replace(context(tmp_path), coordinates=LABELS | {"dataset": "x" * 100})
    wandb_logger(named, project="p", offline=True)
    close_loggers()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    run = next(record.run for record in read_records(folder) if record.HasField("run"))
    assert max(map(len, run.tags)) == 64


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"seed": 7, "student": {"seed": 7}}, True),
        ({"output_dir": "elsewhere", "dataset": {"root": "there"}}, True),
        ({"kd_method": {"alpha": 0.9}}, False),
        ({"profile": "release"}, False),
    ],
)
def test_a_group_joins_seeds_and_nothing_else(tmp_path, options, same):
    config = {"kd_method": {"alpha": 0.8}, "profile": "paper", "seed": 0}
    groups = [LogContext(tmp_path, "student", LABELS, 64, 3, each).group for each in (config, config | options)]
    assert (groups[0] == groups[1]) is same


def test_two_stages_are_two_wandb_runs(tmp_path):
    for stage in ("teacher", "student"):
        _ = wandb_logger(context(tmp_path, stage), project="p", offline=True).experiment
        close_loggers()
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_csv_lies_in_the_run_folder(tmp_path, stage):
    options = {"save_dir": "{run_dir}", "name": "metrics", "version": "{stage}"}
    logger = lightning_logger(context(tmp_path, stage), "CSVLogger", **options)
    logger.log_metrics({"val/map": 0.5}, step=1)
    logger.save()
    assert "val/map" in (tmp_path / "metrics" / stage / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("logger", "options", "message"),
    [
        ("CSVLoger", {}, "logger must be one of .*, got 'CSVLoger'. Did you mean 'CSVLogger'?"),
        ("CSVLogger", {"folder": "x"}, "logger CSVLogger cannot be made: .*save_dir"),
    ],
)
def test_a_wrong_logger_is_refused(tmp_path, logger, options, message):
    with pytest.raises(InputError, match=message):
        lightning_logger(context(tmp_path), logger, **options)


def test_closing_nothing_is_fine():
    close_loggers()


SWEEP = OmegaConf.to_container(OmegaConf.load(ROOT / "experiments" / "wandb" / "sweep.yaml"), resolve=False)


@pytest.mark.parametrize("end", ["min", "max"])
def test_the_options_of_the_wandb_sweep_are_ours(end):
    cfg = composed([f"{key}={ends[end]}" for key, ends in SWEEP["parameters"].items()])
    check(cfg)
    assert build(cfg.kd_method).options.alpha == SWEEP["parameters"]["kd_method.alpha"][end]
    assert SWEEP["metric"] == {"name": cfg.paradigm.monitor, "goal": "maximize"}


@pytest.mark.slow
def test_a_run_of_the_wandb_sweep_logs_its_metric(tmp_path):
    before, module, *fixed = SWEEP["command"][2:]  # the first two start Python
    assert (before, module, SWEEP["command"][-1]) == ("-m", "${program}", "${args_no_hyphens}")
    options = [*fixed[:-1], *(f"{key}={ends['min']}" for key, ends in SWEEP["parameters"].items())]
    done = run_command(*options, *TINY, cwd=tmp_path, module=SWEEP["program"])
    assert done.returncode == 0, done.stderr
    records = [record for folder in tmp_path.rglob("offline-run-*") for record in read_records(folder)]
    logged = {item.key or "".join(item.nested_key) for record in records for item in record.history.item}
    assert SWEEP["metric"]["name"] in logged
