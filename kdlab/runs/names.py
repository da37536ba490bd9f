"""Names for people: of a teacher, and of the run of a config node."""

from __future__ import annotations

from kdlab.config.own_teacher import data_name

from .identity import readable_name


def run_name(node: dict) -> str:
    """The name of the run of a node's config: the experiment that trains it, or its network and data, or the readable
    part of its directory."""
    if "student" in node:
        return f"{node['student']} on {data_name(node['config'])} (seed {node['config']['seed']})"
    return (
        f"{node['experiment']} (seed {node['config']['seed']})"
        if "experiment" in node
        else readable_name(node["config"])
    )


def choice_of(node: dict) -> str:
    """For a teacher that no experiment trains: how it is trained, and how another is chosen."""
    return (
        "; it learns the labels of these data by this run's recipe (teacher.student=NAME takes another network, "
        "teacher.overrides=[…] changes its run)"
        if "student" in node
        else ""
    )


def teacher_name(node: dict) -> str:
    """The name of a teacher for people, from its config node: its run, its members, or its file or model."""
    if "config" in node:
        return run_name(node)
    if "terms" in node:
        return f"a teacher per term ({', '.join(f'{term}: {name}' for term, name in node['terms'].items())})"
    if "members" in node:
        return f"ensemble of {len(node['members'])} ({', '.join(node['members'])})"
    return str(node.get("run") or node.get("checkpoint") or node.get("model") or node.get("_target_"))
