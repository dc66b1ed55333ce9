"""The search for the best student: closed forms refined by several losses, on the training images and on the database.

    python experiments/best_student.py search cifar_testbed OUTPUT dataset.root=CIFAR10
    python experiments/best_student.py final cifar_testbed OUTPUT dataset.root=CIFAR10
    python experiments/best_student.py table cifar_testbed OUTPUT

``search`` gives every recipe `TRIALS` trials of Optuna (64 bits, seed 0, by the best validation mAP@1000 in SSHP).
``final`` runs each with the best options found, on seeds that searched nothing. Both continue where they were stopped.
"""

from __future__ import annotations

from pathlib import Path

from fair_fight import ITQ, SEEDS, Entry, command_line, log, option, run_all, runs, spread

TRIALS, EPOCHS, DATABASE_EPOCHS = 8, 30, 10
START = {
    "student.learning_rate": log(1e-5, 1e-3),
    "+student.init_options.lambda_": log(1e-6, 1e-2),
    "student.init_scale": log(1, 10),
}
TEACHERS = {"cibhash": [], "itq": [ITQ]}
LOSSES = {
    "kl": {"kd_method.temperature": log(1, 16)},
    "cosine": {},
    "brcd": {"kd_method.tau": "interval(0.1,0.6)", "kd_method.delta": "interval(0.05,0.5)"},
}
WARM = ["student.head=linear", "student.init=lsq", "student.hashing_weight=0", "student.patience=100"]
LSQ = ["kd_method=lsq", "student.head=linear"]
DATABASE = "student.train_on=database"

RECIPES = {
    f"{loss}_{teacher}{where}": Entry(
        [
            f"kd_method={loss}",
            *WARM,
            *options,
            *extra,
            f"student.max_epochs={epochs}",
            f"student.check_val_every={every}",
        ],
        START | LOSSES[loss],
    )
    for where, extra, epochs, every, losses in (
        ("", [], EPOCHS, 5, LOSSES),
        ("_database", [DATABASE], DATABASE_EPOCHS, 2, ["kl"]),
    )
    for teacher, options in TEACHERS.items()
    for loss in losses
}
RECIPES |= {
    f"lsq_{teacher}{where}": Entry([*LSQ, *options, *extra], {"kd_method.lambda_": log(1e-6, 1e-2)})
    for teacher, options in TEACHERS.items()
    for where, extra in (("", []), ("_database", [DATABASE]))
}
"""Recipes by name: loss, teacher, and the images that the student sees."""


def main() -> None:
    """Reads the command."""
    parser = command_line(__doc__, ("search", "final", "table"), "--recipes", list(RECIPES))
    args = parser.parse_args()
    folder = args.output.resolve() / "best_student" / args.testbed
    common = [f"+experiment={args.testbed}", f"output_dir={args.output.resolve()}", "float_queries=false"]
    common += args.overrides
    entries = {name: RECIPES[name] for name in args.recipes}
    if args.command == "search":
        searching = ["hydra/sweeper=optuna", f"hydra.sweeper.trials={TRIALS}"]
        jobs = [
            (
                folder / "search" / name,
                [*common, *entry.options, *searching, *(f"{k}={v}" for k, v in entry.space.items())],
            )
            for name, entry in entries.items()
        ]
        run_all(jobs, args.jobs)
    elif args.command == "final":
        seeds = f"seed={','.join(map(str, SEEDS))}"
        jobs = [
            (folder / "final" / name, [*common, *entry.options, *best_options(folder, name), seeds])
            for name, entry in entries.items()
        ]
        run_all(jobs, args.jobs)
    else:
        table(folder)


def best_options(folder: Path, name: str) -> list[str]:
    """The options of the best validation in the search of a recipe, as overrides."""
    best = max(runs(folder / "search" / name), key=lambda run: run["validation"])
    return [f"{key}={option(best, key.removeprefix('+'))}" for key in RECIPES[name].space]


def table(folder: Path) -> None:
    """Prints Markdown."""
    print("| recipe | validation | teacher | SSHP | ASHP | seconds | options |\n|---|---|---|---|---|---|---|")
    for name, entry in RECIPES.items():
        found = runs(folder / "final" / name)
        if len(found) != len(SEEDS):
            continue
        scores = [spread([run["metrics"][f"test/map_{key}"] for run in found]) for key in ("teacher", "sshp", "ashp")]
        seconds = sum(run["timings"]["student_seconds"] for run in found) / len(found)
        values = {key.rpartition(".")[2]: float(option(found[0], key.removeprefix("+"))) for key in entry.space}
        options = ", ".join(f"{key} {value:.3g}" for key, value in values.items())
        validation = spread([run["validation"] for run in found])
        print(f"| {name} | {validation} | {' | '.join(scores)} | {seconds:.1f} | {options} |")


if __name__ == "__main__":
    main()
