"""What a strategy's file says of the terms that it chooses, where others are chosen."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from .paths import conf_dir


def leave_out_idle_terms(config: DictConfig, strategy: str | None, sources) -> None:
    """A strategy's file gives weights to the terms that it chooses; where others are chosen in their place (``strategy=cs_kd loss=[ce,dkd]``), what it
    says of its own goes with them. What anything else has said of such a term stays, for the check to find: it was meant to count.

    Args:
        config: changed in place.
        strategy: the name of the file that was chosen; None where none was.
        sources: Hydra's search path.
    """
    folders = [conf_dir() if source.schema == "pkg" else Path(source.path) for source in sources]
    file = next((path for path in (folder / "strategy" / f"{strategy}.yaml" for folder in folders) if path.is_file()), None)
    told = OmegaConf.to_container(OmegaConf.load(file), resolve=False).get("loss") if file is not None else None
    terms = config.get("loss")
    if not isinstance(told, dict) or not OmegaConf.is_dict(terms):
        return
    written, idle = OmegaConf.to_container(terms, resolve=False), []
    for name, node in told.items():
        if isinstance(written.get(name), dict) and "_target_" not in written[name] and written[name] == node:
            idle.append(name)
            with open_dict(config):
                del terms[name]
    for name, node in told.items():         # what was tied to a term that is gone is tied as its own file ties it
        for key, value in node.items():
            if name in terms and written[name].get(key) == value and any(f"loss.{one}." in str(value) for one in idle):
                own = OmegaConf.to_container(OmegaConf.load(conf_dir() / "loss" / f"{name}.yaml"), resolve=False)
                terms[name][key] = own[name][key]
