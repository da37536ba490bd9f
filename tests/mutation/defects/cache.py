"""Defects in the kept answers of teachers: their key, their files, what is read for a batch, and when they are kept."""

CODEC = {"tests": ("tests/cache/test_codec.py",)}
CACHED = {"tests": ("tests/cache/test_cached.py",)}
STORE = {"tests": ("tests/cache/test_store.py",)}
CACHING = {"tests": ("tests/training/test_caching.py",)}
SHARING = {"tests": ("tests/sweep/test_sharing.py",)}

ROWS = {"tests": ("tests/cache/test_rows.py",)}
PARTS = {"tests": ("tests/functional/test_sparse.py",)}

DEFECTS = [
    ("cache/cached_rows.py", "or not torch.equal(stored[POSITION][rows].long(), position)", "", ROWS),
    ("cache/rows.py", "times / self.samples * (mine - log_pi.gather(1, ids)).exp()", "times / self.samples", ROWS),
    ("cache/rows.py", "counter_bits(index, _DRAWS) + position", "counter_bits(index, _DRAWS)", ROWS),
    ("cache/rows.py", "[:, :-1], every[:, -1]", "[:, :-1].exp(), every[:, -1]", ROWS),
    ("functional/sparse.py", "log_tail.clamp(min=math.log(torch.finfo(named.dtype).tiny))", "log_tail", PARTS),
    ("functional/sparse.py", "of_named - log_named.exp() * total[:, None]", "of_named", PARTS),
    (
        "losses/base.py",
        "if temperature != target.temperature:",
        "if False:",
        {"tests": ("tests/losses/test_sparse_targets.py",)},
    ),
    ("cache/cached.py", 'else f"train-e{epoch}-v{view}"', 'else f"train-e{epoch}-v0"', CACHED),
    ("cache/cached.py", "if batch.partner_target is not None:", "if False:", CACHED),
    ("cache/cached.py", "if not torch.equal(index[places], wanted):", "if False:", CACHED),
    ("cache/cached.py", "with torch.random.fork_rng(devices=[]):", "if True:", CACHED),
    (
        "cache/cached.py",
        "            self._live.watch(self._taps)\n        elif",
        "            pass\n        elif",
        CACHED,
    ),
    ("cache/cached.py", "self.rounded(self.live.teach(batch)) if stored", "self.live.teach(batch) if stored", CODEC),
    ("cache/codec.py", "if (rounded.isinf() & values.isfinite()).any():", "if False:", CODEC),
    ("cache/codec.py", "if self.exact else self.decode", "if True else self.decode", CODEC),
    ("cache/contents.py", 'if self.dtype == "float32":', "if True:", CODEC),
    ("runs/identity.py", "**rounded, **_codec(node)}", "**_codec(node)}", CODEC),
    (
        "training/caching.py",
        '(", channels last" if config.get("channels_last") else "")',
        '""',
        {"tests": ("tests/models/test_layout.py",)},
    ),
    ("training/caching.py", "dtype=dtype_of(config),", "", CODEC),
    ("cache/filling.py", "loader.sampler.set_epoch(epoch)\n        if isinstance", "if isinstance", CACHED),
    ("cache/filling.py", "first[1:] = every[order][1:] != every[order][:-1]", "pass", CACHED),
    ("cache/filling.py", "needed = len(slots) * (", "needed = (", CACHED),
    ("cache/filling.py", "if needed > limit:", "if False:", CACHED),
    ("cache/filling.py", "if len(value) != samples:", "if False:", CACHED),
    ("cache/store.py", "if checksum != json_digest(found):", "if False:", STORE),
    ("cache/store.py", "            self.verify(path)\n", "", STORE),
    ("cache/store.py", '(told.get("slot"), told.get("name")) != (slot, name)', "False", STORE),
    ("cache/store.py", "if self.contents is not None and (wrong :=", "if False and (wrong :=", STORE),
    ("training/caching.py", 'augment_seed=None if mode == "fixed" else seed', "augment_seed=None", CACHING),
    ("training/caching.py", "min(self.epochs or replicas, replicas)", "replicas", CACHING),
    ("data/loader.py", "else epoch % self.replicas", "else epoch", {"tests": ("tests/data/images/test_memory.py",)}),
    ("training/caching.py", "if data.mixing is not None:", "if False:", CACHING),
    ("training/caching.py", 'if mode == "fixed" and data.draws:', "if False:", CACHING),
    ("sweep/sharing.py", 'if one.mode == "fixed" or', "if", SHARING),
    ("sweep/sharing.py", "asked[key] > 1", "asked[key] > 2", SHARING),
    ("data/images/memory.py", "own = type(self).prepare_images is InMemory.prepare_images", "own = True"),
    ("data/base.py", "seed=self.augmentation_seed,\n            share", "seed=self.seed,\n            share"),
]
