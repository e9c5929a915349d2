"""The commands `store` and `gc`: what is in the store of trained epochs, and what may go."""

from __future__ import annotations

import argparse
import sys

from methods.cache.store import Store, default_folder

from ..errors import BAD_INPUT
from ..running.retention import limit_bytes, sweep_away
from ..units import size


def store(options: argparse.Namespace) -> int:
    records = list(Store(default_folder()).records())
    kinds: dict[str, list[int]] = {}
    for record in records:
        kinds.setdefault(record.name.partition("-")[0], []).append(record.size)
    total, keys = sum(record.size for record in records), len({record.key for record in records})
    print(f"{default_folder()}: {keys} keys, {size(total)} of at most {size(limit_bytes())}")
    widest = max(map(len, kinds), default=0)
    for kind, sizes in sorted(kinds.items()):
        print(f"  {kind:<{widest}} {len(sizes):>7} records {size(sum(sizes)):>10}")
    return 0


def gc(options: argparse.Namespace) -> int:
    if not (options.older_than or options.max_size or options.keep):
        print("error: say what may go: --older-than, --max-size or --keep", file=sys.stderr)
        return BAD_INPUT
    needed: set[str] | None = None
    if options.keep:
        from methods.training.fit import made_once

        from ..planning.studies import so_far
        from ..spaces.reading import load_space, profiles_of

        needed = set()
        for space in (load_space(path, profile) for path in options.keep for profile in profiles_of(path)):
            for trial in so_far(space, {})[0].trials:
                config = trial.config
                once = made_once(config.data, config.network, config.train.compute(), views=False)
                needed.update(trial.keys, (key for key, _ in once))
    records, count = sweep_away(
        Store(default_folder()),
        older_than=options.older_than * 86400 if options.older_than else None,
        max_bytes=options.max_size * 10**6 if options.max_size else None,
        needed=needed,
    )
    print(f"{records} records deleted, {size(count)}")
    return 0
