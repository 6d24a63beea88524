"""A run of the bench as people read it: Markdown that says on what, how, and with what result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from figures import shown, with_ratios
from growing import curve_tables
from tables import (
    cell,
    cut_list,
    figure_table,
    goal_missed,
    goal_of_ratio,
    ratio_missed,
    ratio_table,
    spread_told,
)

TITLES = {True: "short", False: "long"}


def report(results: Mapping[str, Any], stem: str, folder: str = "") -> str:
    """Return all of a run.

    Parameters
    ----------
    stem
        The name of its results file, without what it ends in; its pictures are in a folder of that name.
    folder
        Where these are, as seen from where the report is: empty, or a path that ends in a slash.
    """
    parts = {name: with_ratios(part) for name, part in results["parts"].items()}
    lines = [*_heading(results, f"{folder}{stem}.json"), *_losses(results, parts)]
    lines += [*_pictures(results["pictures"], f"{folder}{stem}/"), *_scripts(results, parts)]
    for name, part in parts.items():
        lines += _part(name, part, results["versions"])
    return "\n".join(lines)


def _heading(results: Mapping[str, Any], path: str) -> Iterator[str]:
    machine = results["machine"]
    yield f"## The {TITLES[results['quick']]} run of {results['date']}"
    yield ""
    yield (
        f"On {machine['processors']} processors ({machine['processor']}), {machine['memory']} of memory, "
        f"{machine['system']}, control groups {machine['cgroups']}. "
        f"The load was {results['load'][0]} before and {results['load'][1]} after. It took "
        f"{results['seconds'] / 60:.0f} minutes; of processor time "
        + ", ".join(f"{seconds:.0f} s {whose}" for whose, seconds in results["processor seconds"].items())
        + f". The order is that of seed {results['seed']}. "
        f"[The results file]({path}) has every sample and turn."
    )
    yield ""
    told = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    yield f"Versions: {told}."
    yield ""


def _losses(results: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    """What is lost to a peer, missed, failed or not measured, first of all."""
    kinds: dict[str, list[str]] = {
        "Slower or larger than a peer": [],
        "Goals that are missed": [],
        "What failed": [],
        "What was not measured": [
            f"`{name}`: {one['ended']}" for name, one in results["benches"].items() if one["ended"]
        ],
    }
    lost, missed, failed, cut = kinds.values()
    for name, part in parts.items():
        cut += [f"`{name}`: {cell(sentence, 500)}" for sentence in part["cuts"]]
        for figure in part["figures"]:
            where = f"`{name}`, {figure['group']}: {figure['name']}"
            if goal_missed(figure):
                bound = next(iter(figure["goal"].values()))
                unit = figure["unit"]
                missed.append(f"{where} is {shown(figure['median'], unit)}, the goal is {shown(bound, unit)}")
            if count := len(figure["failures"]):
                tried, said = count + figure["count"], cell(figure["failures"][-1])
                failed.append(f"{where} failed {count} times of {tried}: {said}")
        cut += _ratios_cut(name, part["ratios"])
        for ratio in part["ratios"]:
            where = f"`{name}`, {ratio['group']}: {ratio['name']}"
            if ratio_missed(ratio):
                missed.append(
                    f"{where} is {ratio['value']:.3g} times {ratio['of']}, the goal is {goal_of_ratio(ratio)}"
                )
            if lost_to_a_peer(ratio):
                lost.append(f"{where} is {ratio['value']:.3g} times {ratio['of']} ({spread_told(ratio)})")
    for title, sentences in kinds.items():
        yield f"### {title}"
        yield ""
        yield from [f"- {sentence}" for sentence in sentences] or ["Nothing, in this run."]
        yield ""


def _ratios_cut(name: str, ratios: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tell each ratio that is lacking as something failed, and how many are as there was no time."""
    lacking = [ratio for ratio in ratios if "value" not in ratio]
    failed = [ratio for ratio in lacking if "failed" in ratio["why"]]
    for ratio in failed:
        what = f"{ratio['group']}: {ratio['name']} beside {ratio['of']}"
        yield f"`{name}`, {what}: {cell(ratio['why'])}"
    if count := len(lacking) - len(failed):
        yield f"`{name}`: {count} of {len(ratios)} ratios, of which a figure is lacking (`–` in their table)"


def lost_to_a_peer(ratio: Mapping[str, Any]) -> bool:
    """Return whether a peer is better for sure: the whole interval is on its side."""
    if "value" not in ratio or ratio["to_a_limit"] or not ratio["ours"]:
        return False
    return bool(ratio["high"] < 1 if ratio["higher_is_better"] else ratio["low"] > 1)


def _pictures(pictures: Mapping[str, Any], folder: str) -> Iterator[str]:
    yield "### Pictures"
    yield ""
    if pictures["lacking"]:
        yield f"Not all could be drawn: {cell(pictures['lacking'])}."
        yield ""
    for name in pictures["drawn"]:
        title = name[:1].upper() + name[1:].replace("-", " ")
        yield f"[![{title}]({folder}{name}.png)]({folder}{name}.svg)"
        yield ""


def _scripts(results: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    """Every script, with what it took: the load's generator is the script itself."""
    yield "### What was run"
    yield ""
    head = ["script", "took", "of", "processor time", "of it the script's own", "load", "seed", "ended"]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for name, told in results["benches"].items():
        part = parts.get(name)
        row = [
            f"`bench/{name}.py`",
            f"{told['wall']:.0f} s" if "wall" in told else "–",
            f"{told['seconds']:.0f} s",
            f"{told['cpu']:.0f} s" if "cpu" in told else "–",
            f"{part['cpu_of_this_script']:.1f} s" if part else "–",
            "{} to {}".format(*part["load"]) if part else "–",
            str(part["seed"]) if part else "–",
            cell(told["ended"]) or "as it should",
        ]
        if told.get("left"):
            row[-1] += f"; it left {len(told['left'])} processes"
        yield f"| {' | '.join(row)} |"
    yield ""


def _part(name: str, part: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[str]:
    yield f"### `bench/{name}.py`"
    yield ""
    yield part["method"][:1].upper() + part["method"][1:]
    more = [
        f"{package} {version}"
        for package, version in part["versions"].items()
        if known.get(package) != version
    ]
    if more:
        yield ""
        yield f"With, besides: {', '.join(more)}."
    yield ""
    yield ratio_table(part)
    if part.get("reached"):
        yield curve_tables(part)
    if cuts := cut_list(part):
        yield cuts
    yield f"<details><summary>All {len(part['figures'])} figures</summary>"
    yield ""
    yield figure_table(part)
    yield "</details>"
    yield ""
