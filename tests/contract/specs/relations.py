"""Relations of samples and of channels: references entry by entry, in plain Python; singular vectors by power iteration
on numpy."""

import math

import numpy as np

from kdlab import functional

from ..spec import Spec, inputs, normal

FEATURES = inputs(student=normal(5, 6), teacher=normal(5, 4))
TWINS = inputs(student=normal(5, 6), teacher=normal(5, 6))
MAPS = inputs(student=normal(3, 2, 4, 4), teacher=normal(3, 3, 2, 2))
PAIR = {"student": ("student_first", "student_second"), "teacher": ("teacher_first", "teacher_second")}
STAGES = inputs(
    **{f"{side}_first": normal(3, 2, 4, 4) for side in ("student", "teacher")},
    **{f"{side}_second": normal(3, 3, 2, 2) for side in ("student", "teacher")},
)
FEW_POSITIONS = inputs(**{name: normal(2, 5, 2, 2) for name in (*PAIR["student"], *PAIR["teacher"])})


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def length(a):
    return math.sqrt(dot(a, a))


def gram(x):
    return [[dot(a, b) for b in x] for a in x]


def vectors(tensor):
    return tensor.flatten(1).tolist()


def mean_square(a, b):
    return sum((x - y) ** 2 for p, q in zip(a, b) for x, y in zip(p, q)) / sum(len(row) for row in a)


def sp(student, teacher, norm=2.0):
    def rows(x):
        return [[g / sum(abs(h) ** norm for h in row) ** (1 / norm) for g in row] for row in gram(vectors(x))]

    return mean_square(rows(student), rows(teacher))


def cc(student, teacher):
    delta = [[abs(a - b) for a, b in zip(s, t)] for s, t in zip(vectors(student), vectors(teacher))]
    return sum(dot(delta[i], delta[i + 1]) for i in range(len(delta) - 1)) / (len(delta) - 1)


def cc_kernel(student, teacher, kernel="gaussian", gamma=0.4, order=2, normalise=True, squared=True):
    def matrix(x):
        x = [[v / (length(row) if normalise else 1) for v in row] for row in vectors(x)]
        taylor = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
        return [
            [g if kernel == "bilinear" else sum(c * g**p for p, c in enumerate(taylor)) for g in row] for row in gram(x)
        ]

    value = mean_square(matrix(student), matrix(teacher))
    return value if squared else math.sqrt(value) / len(student)


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def rkd(student, teacher, distance_weight=25.0, angle_weight=50.0):
    def minus(a, b):
        return [x - y for x, y in zip(a, b)]

    def distances(x):
        d = [[length(minus(a, b)) for b in x] for a in x]
        mean = sum(map(sum, d)) / (len(x) * (len(x) - 1))
        return [v / mean for row in d for v in row]

    def angles(x):
        n = range(len(x))
        return [
            0.0
            if i in (j, k)
            else dot(minus(x[j], x[i]), minus(x[k], x[i])) / length(minus(x[j], x[i])) / length(minus(x[k], x[i]))
            for i in n
            for j in n
            for k in n
        ]

    s, t = vectors(student), vectors(teacher)
    distance, angle = (sum(huber(a - b) for a, b in zip(f(s), f(t))) / len(f(s)) for f in (distances, angles))
    return distance_weight * distance + angle_weight * angle


def pkt(student, teacher, epsilon=1e-7):
    def probabilities(x):
        x = [[v / (length(row) + epsilon) for v in row] for row in vectors(x)]
        return [[(1 + g) / sum(1 + h for h in row) for g in row] for row in gram(x)]

    s, t = probabilities(student), probabilities(teacher)
    return sum(q * math.log((q + epsilon) / (p + epsilon)) for a, b in zip(s, t) for p, q in zip(a, b)) / len(s) ** 2


def similarity_kl(student, teacher, temperature=0.1):
    def probabilities(x):
        x = [[v / length(row) for v in row] for row in vectors(x)]
        rows = [
            [0.0 if i == j else math.exp(dot(a, b) / temperature) for j, b in enumerate(x)] for i, a in enumerate(x)
        ]
        return [[e / sum(row) for e in row] for row in rows]

    s, t = probabilities(student), probabilities(teacher)
    return sum(q * math.log(q / p) for a, b in zip(s, t) for p, q in zip(a, b) if q) / len(s)


def cka(student, teacher):
    """In the space of the dimensions, where the function works in that of the samples."""
    x, y = (f.flatten(1).numpy() - f.flatten(1).numpy().mean(0) for f in (student, teacher))
    return 1 - np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def shrunk(channel, size):
    """A square map, averaged over blocks down to ``size``."""
    step = len(channel) // size
    return [
        sum(channel[step * i + a][step * j + b] for a in range(step) for b in range(step)) / step**2
        for i in range(size)
        for j in range(size)
    ]


def nst(student, teacher, degree=2):
    values = []
    for s, t in zip(student.tolist(), teacher.tolist()):
        size = min(len(s[0]), len(t[0]))
        s, t = ([[v / length(row) for v in row] for row in (shrunk(channel, size) for channel in x)] for x in (s, t))

        def kernel(a, b):
            return sum(dot(x, y) ** degree for x in a for y in b) / len(a) / len(b)

        values.append(kernel(t, t) + kernel(s, s) - 2 * kernel(s, t))
    return values


def fsp(student_first, student_second, teacher_first, teacher_second):
    def flow(first, second):
        size = min(len(first[0]), len(second[0]))
        first, second = ([shrunk(channel, size) for channel in x] for x in (first, second))
        return [[dot(a, b) / size**2 for b in second] for a in first]

    return [
        mean_square(flow(a, b), flow(c, d))
        for a, b, c, d in zip(
            student_first.tolist(), student_second.tolist(), teacher_first.tolist(), teacher_second.tolist()
        )
    ]


def principal(sample, number):
    """Eigenvectors of the channels' Gram matrix by power iteration, each removed once found, and their singular
    values."""
    matrix = np.array([np.ravel(channel) for channel in sample])
    left, found, sizes = matrix @ matrix.T, [], []
    for _ in range(min(number, *matrix.shape)):
        v = np.cos(np.arange(len(matrix)) + 1.0)
        for _ in range(3000):
            v = left @ v
            v /= np.linalg.norm(v)
        sizes.append(math.sqrt(v @ left @ v))
        found.append(v if v[np.abs(v).argmax()] > 0 else -v)
        left = left - sizes[-1] ** 2 * np.outer(v, v)
    return found, sizes


def radial(a, b):
    return math.exp(-((a - b) ** 2) / 8)


def kdsvd(student_first, student_second, teacher_first, teacher_second, vectors=1):
    values = []
    for maps in zip(student_first.tolist(), student_second.tolist(), teacher_first.tolist(), teacher_second.tolist()):
        sides = []
        for s, t in (maps[::2], maps[1::2]):
            theirs, sizes = principal(t, vectors)
            mine, _ = principal(s, vectors + 3)
            nearest = [max(mine, key=lambda v: abs(v @ u)) for u in theirs]
            weights = [size / length(sizes) for size in sizes]
            sides.append(
                (
                    [w * v * np.sign(v @ u) for w, v, u in zip(weights, nearest, theirs)],
                    [w * u for w, u in zip(weights, theirs)],
                )
            )
        (s_first, t_first), (s_second, t_second) = sides
        values.append(
            sum(
                (radial(s_first[j][c], s_second[j][d]) - radial(t_first[j][c], t_second[j][d])) ** 2
                for j in range(len(t_first))
                for c in range(len(maps[0]))
                for d in range(len(maps[1]))
            )
        )
    return values


_BATCH = {"mask": "a relation within the batch: its samples are those that count"}
_ORDER = {**_BATCH, "batch": "it compares neighbours, so that the order of the batch matters by definition"}


def longer(arguments):
    """The teacher's batch holds one sample more."""
    return {**arguments, "teacher": arguments["teacher"][[0, *range(len(arguments["teacher"]))]]}


def wider(arguments):
    """The teacher's second map has one channel more."""
    theirs = arguments["teacher_second"]
    return {**arguments, "teacher_second": theirs[:, [0, *range(theirs.shape[1])]]}


def relation(name, function, arguments, reference, skips=_BATCH, **more):
    return Spec(name, function, arguments, reference, rows=False, wrong=longer, skips=skips, **more)


SPECS = [
    relation("sp", functional.sp, FEATURES, sp),
    relation("sp/norm 1", functional.sp, FEATURES, sp, options={"norm": 1.0}),
    relation("cc", functional.cc, TWINS, cc, _ORDER),
    relation("cc_kernel", functional.cc_kernel, FEATURES, cc_kernel, options={"order": 3}),
    relation(
        "cc_kernel/torchdistill",
        functional.cc_kernel,
        FEATURES,
        cc_kernel,
        options={"normalise": False, "squared": False},
    ),
    # the gradient grows with the third power of the features, and is itself of half precision
    relation(
        "cc_kernel/bilinear",
        functional.cc_kernel,
        FEATURES,
        cc_kernel,
        options={"kernel": "bilinear", "normalise": False},
        largest=10.0,
    ),
    relation("rkd", functional.rkd, FEATURES, rkd),
    relation("pkt", functional.pkt, FEATURES, pkt),
    relation("similarity_kl", functional.similarity_kl, FEATURES, similarity_kl),
    relation("similarity_kl/warm", functional.similarity_kl, FEATURES, similarity_kl, options={"temperature": 1.0}),
    relation("cka", functional.cka, FEATURES, cka),
    Spec("nst", functional.nst, MAPS, nst, wrong=longer),
    Spec("nst/linear", functional.nst, MAPS, nst, options={"degree": 1}, wrong=longer),
    Spec("fsp", functional.fsp, STAGES, fsp, **PAIR, wrong=wider),
    Spec("kdsvd", functional.kdsvd, STAGES, kdsvd, **PAIR, wrong=wider, options={"vectors": 2}),
    Spec("kdsvd/more channels than positions", functional.kdsvd, FEW_POSITIONS, kdsvd, **PAIR, wrong=wider),
]
