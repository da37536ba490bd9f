"""What the references of the pieces share: numpy, row by row."""

import numpy as np


def softmax(row, temperature=1.0):
    powers = np.exp(np.asarray(row) / temperature)
    return powers / powers.sum()


def kd(student, teacher, temperature, entropy=True, epsilon=0.0):
    """T^2 KL of each row; ``epsilon`` is added to the teacher's probabilities."""
    values = []
    for s, t in zip(np.asarray(student), np.asarray(teacher)):
        p, q = softmax(t, temperature) + epsilon, softmax(s, temperature)
        values.append(temperature**2 * sum(a * ((np.log(a) if entropy else 0.0) - np.log(b)) for a, b in zip(p, q)))
    return np.array(values)


def ce(logits, target):
    return np.array([-np.log(softmax(row)[label]) for row, label in zip(np.asarray(logits), np.asarray(target))])


def first(arguments):
    return arguments["first"]


TARGET = "a soft target, not a loss: there are no values of rows to reduce"
