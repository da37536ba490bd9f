"""Defects in data: splits, order, augmentation, mixing, files."""

VIEWS = {"tests": ("tests/data/text/test_text_views.py",)}
ON_DISK = {"tests": ("tests/data/text/test_tokens_on_disk.py",)}

DEFECTS = [
    (
        "data/images/augment.py",
        "counter_uniform(index, seed, epoch, view, _FLIP)",
        "counter_uniform(index, seed, view, _FLIP)",
    ),
    (
        "data/images/augment.py",
        "counter_uniform(index, seed, epoch, view, _FLIP)",
        "counter_uniform(index, seed, epoch, _FLIP)",
    ),
    (
        "data/images/augment.py",
        "counter_uniform(index, seed, epoch, view, _FLIP)",
        "counter_uniform(index, epoch, view, _FLIP)",
    ),
    (
        "data/images/augment.py",
        "_SHIFT_DOWN, _SHIFT_RIGHT, _FLIP = 11, 12, 13",
        "_SHIFT_DOWN, _SHIFT_RIGHT, _FLIP = 11, 11, 13",
    ),
    ("data/images/augment.py", "places = 2 * self.crop_padding + 1", "places = 2 * self.crop_padding"),
    (
        "data/images/augment.py",
        "images = self._crop(images, index, seed, epoch, view)",
        "images = self._crop(images, index, seed, view)",
    ),
    ("data/images/augment.py", "_FLIP) < self.flip", "_FLIP) > self.flip"),
    (
        "data/base.py",
        "bits = counter_bits(torch.arange(len(target)), self.split_seed, _SPLIT)",
        "bits = counter_bits(torch.arange(len(target)), self.seed, _SPLIT)",
    ),
    (
        "data/classification.py",
        "return stratum not in self.omit_classes",
        "return stratum in self.omit_classes or not self.omit_classes",
    ),
    ("data/base.py", "train.append(kept[: max(round(self.fraction * len(kept)), 1)])", "train.append(kept)"),
    (
        "data/base.py",
        'return self._rows("validation", self.part("validation"), Share(self.share.rank, self.share.world))',
        'return self._rows("validation", self.part("train"), Share(self.share.rank, self.share.world))',
    ),
    ("data/base.py", "augment=self.augment if training else None", "augment=self.augment"),
    (
        "data/base.py",
        "order = EpochOrder(rows, self.seed, shuffle=training,",
        "order = EpochOrder(rows, self.seed, shuffle=True,",
    ),
    ("data/base.py", "if training and self.mixing is not None else None", "if self.mixing is not None else None"),
    ("data/base.py", "return rows[:count], rows[count:]", "return rows[:count], rows"),
    (
        "data/loader.py",
        "counter_order(self.rows, self.seed, self._present, _ORDER)",
        "counter_order(self.rows, self.seed, _ORDER)",
    ),
    (
        "data/loader.py",
        "self._normalisers(in_step, share.world * share.accumulate)",
        "self._normalisers(in_step, share.accumulate)",
    ),
    (
        "data/loader.py",
        'found = {"normaliser": (rows or 1.0) / parts}',
        'found = {"normaliser": len(in_step) / parts}',
    ),
    (
        "data/loader.py",
        'found["position_normaliser"] = _held(in_step, self.position_counts) / parts',
        'found["position_normaliser"] = len(in_step) / parts',
    ),
    (
        "data/loader.py",
        'found["sample_normaliser"] = len(in_step) / parts',
        'found["sample_normaliser"] = len(in_step)',
    ),
    ("data/loader.py", "if number % share.accumulate == 0:", "if True:"),
    ("data/loader.py", "keep_tail = tail and not self.drop_last and", "keep_tail = tail and"),
    ("data/loader.py", "tail >= 2 * self.share.world", "tail >= self.share.world"),
    (
        "data/loader.py",
        "self.augment(stored, rows, self.seed, epoch, view)",
        "self.augment(stored, rows, self.seed, epoch, 0)",
    ),
    ("data/loader.py", "else groups.t().reshape(-1)", "else groups.reshape(-1)"),
    (
        "data/loader.py",
        "split=self.split, epoch=epoch, **fields)",
        "split=self.split, **fields)",
    ),
    (
        "data/images/mixing.py",
        "share * view + (1 - share) * view[partners]",
        "(1 - share) * view + share * view[partners]",
    ),
    (
        "data/images/mixing.py",
        "return 1 - (down.stop - down.start) * (across.stop - across.start) / (height * width), mixed",
        "return share, mixed",
    ),
    (
        "data/images/mixing.py",
        "derived_seed(seed, batch.epoch, int(batch.index[0]), _MIXING)",
        "derived_seed(seed, int(batch.index[0]), _MIXING)",
    ),
    ("data/images/mixing.py", "None if batch.target is None else batch.target[partners]", "batch.target"),
    ("data/images/crops.py", "key = (seed, epoch, view)", "key = (seed, epoch)"),
    (
        "data/images/crops.py",
        "round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))",
        "round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))",
    ),
    ("data/images/crops.py", "shorter = min(width, height)", "shorter = max(width, height)"),
    (
        "data/images/image_folder.py",
        'NOT_IDENTITY = ("workers",)',
        'NOT_IDENTITY = ("workers", "size")',
        {"tests": ("tests/data/images/test_image_folder.py", "tests/runs/test_identity.py")},
    ),
    (
        "data/images/memory.py",
        "self.normalisation(images.to(torch.float32) / self.SCALE)",
        "self.normalisation(images.to(torch.float32))",
    ),
    (
        "counter.py",
        "_shift(counter_bits(index, *key), 11).to(torch.float64) * 2.0**-53",
        "_shift(counter_bits(index, *key), 11).to(torch.float32) * 2.0**-53",
    ),
    (
        "normalisation.py",
        "(pixels - _shaped(self.mean, pixels)) / _shaped(self.std, pixels)",
        "(pixels - _shaped(self.mean, pixels)) * _shaped(self.std, pixels)",
    ),
    ("data/text/views.py", "(place == 0) | (steps == 0)", "place == 0", VIEWS),
    ("data/text/views.py", "self._in_texts(rows, steps)[1].minimum(steps)", "self._in_texts(rows, steps)[1]", VIEWS),
    (
        "data/text/views.py",
        "self.second.at(rows[later] - begin, steps[later])",
        "self.second.at(rows[later], 0 * steps[later])",
        VIEWS,
    ),
    ("data/text/on_disk.py", "_cut(files, done)  # what was written", "pass  # what was written", ON_DISK),
    ("data/text/on_disk.py", "some_rows(block, max(done.rows - begin, 0))", "some_rows(block, 0)", ON_DISK),
    ("data/text/on_disk.py", "found.ids.ends + done.tokens", "found.ids.ends", ON_DISK),
    ("data/text/on_disk.py", "or done.complete and not done.dropped", "or done.complete", ON_DISK),
    ("data/text/on_disk.py", 'with FileLock(self.path / "lock"):', "if True:", ON_DISK),
    ("data/text/sources.py", "size >= CHARACTERS or", "False or", {"tests": ("tests/data/text/test_text_sources.py",)}),
]
