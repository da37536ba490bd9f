"""What is known of a run's networks before they are tried: heads that are new, texts that are too long, and what taps
change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kdlab.data import Data
from kdlab.errors import shortened
from kdlab.strategies.cohort import Peer
from kdlab.tasks import CausalLM, Task
from kdlab.teachers import Teacher

#: networks by the keys of their configs
Networks = Mapping[str, nn.Module | None]


def networks_of_peers(peers: Mapping[str, Peer] | None) -> dict[str, nn.Module | None]:
    """The networks that learn beside the student, by the keys of their configs."""
    return {f"strategy.peers.{name}": peer.network for name, peer in (peers or {}).items()}


def networks_of_teacher(teacher: Teacher | None) -> dict[str, nn.Module | None]:
    """The teacher's networks, by the keys of their configs. Those that are not in memory are left out."""
    if teacher is None:
        return {}
    members = {f"teacher.members.{name}": one for name, one in teacher.members.items()} or {"teacher": teacher}
    return {key: one.network for key, one in members.items() if getattr(one, "is_loaded", True)}


def new_head(key: str, network: nn.Module, classes: int) -> list[str]:
    """The note on a learner whose pretrained weights have no head: its head begins untrained, which is fine for a
    network that learns."""
    weights = getattr(network, "pretrained_weights", None) or {}
    if not weights.get("unfilled"):
        return []
    why = (
        f"its weights know {weights['classes']} classes, the data have {classes}"
        if weights["classes"]
        else "its weights hold no head"
    )
    return [f"{key}: {why}: its head ({shortened(weights['unfilled'])}) is new and untrained"]


def rounded_learners(config: Mapping[str, Any]) -> list[str]:
    """The problems of networks that learn and are asked for with weights of few bits."""
    peers = config["strategy"].get("peers")
    nodes = {"student": config["student"]}
    if isinstance(peers, Mapping):
        nodes |= {f"strategy.peers.{name}": node for name, node in peers.items()}
    return [
        f"{key}.bits={node['bits']}: rounded weights cannot be trained; {key}.bits=null (teacher.bits is for a frozen "
        "teacher)"
        for key, node in nodes.items()
        if isinstance(node, Mapping)
        and node.get("_target_") == "kdlab.models.CausalModel"
        and node.get("bits") is not None
    ]


def too_long(learners: Networks, teachers: Networks, data: Data) -> list[str]:
    """The networks that have fewer positions than the longest text has tokens. A teacher may read other tokens than
    those that learn (:attr:`kdlab.data.Data.longest_for_teacher`)."""
    found = []
    for networks, longest in ((learners, data.longest), (teachers, data.longest_for_teacher)):
        limits = {key: getattr(network, "positions", None) for key, network in networks.items()}
        found += [
            f"{key}: a text has {longest} tokens, and the model has positions for {limit}; data.length={limit} cuts "
            "longer texts"
            for key, limit in limits.items()
            if isinstance(limit, int) and longest is not None and longest > limit
        ]
    return found


def no_room_for_answers(networks: Networks, data: Data, task: Task | None) -> list[str]:
    """A problem where answers are measured, and the longest prompt leaves too little room for them in a network."""
    limits = [limit for one in networks.values() if isinstance(limit := getattr(one, "positions", None), int)]
    if not isinstance(task, CausalLM) or not task.of_answers or not limits:
        return []
    prompt, limit = data.longest_prompt, min(limits)
    if prompt is None or prompt + task.longest_answer <= limit:
        return []
    return [
        f"task.longest_answer={task.longest_answer}: the longest prompt has {prompt} tokens, and the model has "
        f"positions for {limit}; task.longest_answer={max(limit - prompt, 1)}"
    ]


def tap_notes(networks: Networks) -> list[str]:
    """The notes of networks on what the taps that are read have changed
    (:attr:`kdlab.models.TextEncoder.tap_notes`)."""
    return [f"{key}: {line}" for key, one in networks.items() for line in getattr(one, "tap_notes", [])]
