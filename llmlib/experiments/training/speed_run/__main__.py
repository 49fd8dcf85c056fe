"""Do an entry of the speed run's log again: `python -m llmlib.experiments.training.speed_run NAME`.

Without a name it lists the entries. Nothing is written; the record's value is shown beside.
"""

import argparse

import torch

from llmlib.core.nearest import did_you_mean
from llmlib.experiments.lines import load_record
from llmlib.experiments.records import record_of
from llmlib.experiments.training.speed_run_screening import ENTRIES, EXPERIMENT, SEEDS, changes_of


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("entry", nargs="?")
    parser.add_argument("--seed", type=int, default=SEEDS[0])
    options = parser.parse_args(arguments)
    entries = {entry.name: entry for entry in ENTRIES}
    if options.entry is None:
        print("\n".join(entries))
        return 0
    if options.entry not in entries:
        parser.error(f"no entry {options.entry!r}{did_you_mean(options.entry, entries)}")
    entry = entries[options.entry]
    condition = {"entry": entry.name, "steps": entry.steps, "seed": options.seed}
    torch.set_num_threads(EXPERIMENT.threads)
    found = EXPERIMENT.measure({**condition, "changes": changes_of(entry.name)})
    old = [run for run in load_record(record_of(EXPERIMENT)) if condition.items() <= run.items()]
    print(f"{entry.name}, seed {options.seed}: {found['watched_loss']} nats", end="")
    print(f", in the record {old[0]['watched_loss']}" if old else "")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
