"""Small recorded runs and latencies; codes are prototypes of four classes with flipped bits."""

import torch
from safetensors.torch import save_file

from brcd_lightning.codes.clusters import bit_expectations, bit_masks, kmeans_codes
from brcd_lightning.results.record import Outcome, Subject, make_results, save_codes, write_results

LABELS = {"dataset": "digits", "hashing_model": "cibhash", "teacher": "large", "student": "small"}
CLASSES, QUERIES, DATABASE, TRAIN = 4, 24, 80, 60

LATENCY = {
    "schema_version": 1,
    "kind": "latency",
    "device": "a device",
    "processor": "a processor",
    "threads": {"torch": 2},
    "commit": "c",
    "options": {"repeats": 20, "image_size": 32},
    "encode": [
        {
            "backbone": name,
            "parameters": 2e6,
            "gmacs": 0.5,
            "batch": batch,
            "ms": ms * batch,
            "ms_p10": 0.1,
            "ms_p90": 99,
        }
        for name, ms in (("small", 1.0), ("large", 10.0), ("tiny", 0.5))
        for batch in (1, 8)
    ],
    "search": [
        {"n": 1000, "k": 10, "bits": 16, "batch": batch, "ms": 0.25, "ms_p10": 0.2, "ms_p90": 0.3} for batch in (1, 8)
    ],
}


def noisy(labels, bits, flips, seed):
    generator = torch.Generator().manual_seed(7)
    prototypes = torch.randint(0, 2, (CLASSES, bits), generator=generator)
    generator.manual_seed(seed)
    flipped = torch.rand((len(labels), bits), generator=generator) < flips
    return ((prototypes[labels] ^ flipped) * 2 - 1).to(torch.int8)


def write_run(
    folder,
    kd_method="brcd",
    seed=0,
    bits=16,
    sshp=0.5,
    codes=True,
    config=None,
    split="s",
    epochs=3,
    more=(),
    classes=(),
    options=None,
    **row,
):
    """Writes a run as `run.py` does; `options` are those of the data set, further arguments coordinates."""
    (folder / ".hydra").mkdir(parents=True)
    method = {"type": "x", "weight": 1.0, "seed": 0, **(config or {})}
    outcome = Outcome(
        metrics={"test/map_sshp": sshp, "test/map_ashp": sshp / 2, "test/map_teacher": 0.75, **dict(more)},
        intervals={"test/map_sshp": (sshp - 0.1, sshp + 0.1)},
        validation=sshp + 0.01,
        epochs=epochs,
        timings={"student_seconds": 2.0 * epochs},
    )
    subject = Subject(
        coordinates=LABELS | {"kd_method": kd_method, "profile": "paper", "paradigm": "sshp"} | row,
        method=method,
        uses_labels=kd_method == "packd",
        seed=seed,
        config={"map_k": 20, "bits": bits, "seed": seed, "kd_method": method, "dataset": options or {}},
        sizes={"train": TRAIN, "query": QUERIES, "database": DATABASE},
        classes=classes,
        fingerprints={"split": split, "teacher": f"t{seed}"},
    )
    results = make_results(outcome, subject)
    if codes:
        write_codes(folder, bits, kd_method, seed)
    write_results(folder, results)
    (folder / "DONE").touch()
    return folder


def write_codes(folder, bits, kd_method, seed):
    sides = {"query": torch.arange(QUERIES) % CLASSES, "database": torch.arange(DATABASE) % CLASSES}
    flips = {"student": 0.3 if kd_method == "none" else 0.1, "teacher": 0.05}
    tables = {
        f"{encoder}_{side}": (noisy(labels, bits, flips[encoder], seed + len(encoder)), labels)
        for encoder in flips
        for side, labels in sides.items()
    }
    save_codes(folder / "codes.safetensors", tables)
    if kd_method != "none":
        labels = torch.arange(TRAIN) % CLASSES
        train = noisy(labels, bits, 0.1, seed)
        centroids, assignments = kmeans_codes(train, CLASSES, seed=0, n_init=2)
        kept = {
            "codes": train,
            "centroids": centroids,
            "assignments": assignments,
            "expectations": bit_expectations(train, assignments, CLASSES),
            "masks": bit_masks(train, assignments, CLASSES, 0.8),
            "view_codes": noisy(labels, bits, 0.15, seed + 1)[:56],
            "view_index": torch.arange(56),
        }
        save_file(kept, folder / "teacher_codes.safetensors")


def write_grid(folder):
    """A grid that fills every table and figure but the latencies."""
    job = iter(range(1000))
    for bits in (16, 32):
        for seed in (0, 1):
            for number, method in enumerate(("none", "kl", "brcd")):
                write_run(folder / str(next(job)), method, seed, bits, 0.4 + 0.1 * number + 0.01 * seed)
    for alpha in (0.6, 0.9):
        for delta in (0.2, 0.5):
            write_run(folder / str(next(job)), config={"alpha": alpha, "delta": delta}, sshp=alpha / 2 + delta / 10)
    write_run(folder / str(next(job)), student="tiny", sshp=0.3)
    write_run(folder / str(next(job)), hashing_model="mecoq", sshp=0.3)
    write_run(folder / str(next(job)), "lsq", epochs=0, sshp=0.3, more={"test/map_sshp_float": 0.35})
    return folder
