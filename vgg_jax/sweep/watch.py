"""Progress over all trainings of a sweep, with the time left."""

from collections import Counter
from collections.abc import Collection

from tqdm import tqdm

from vgg_jax.progress import progress_bar
from vgg_jax.sweep.attempts import STATES, Queue, images_seen, state
from vgg_jax.sweep.plan import Sweep


def sweep_bar(sweep: Sweep) -> tqdm:
    """A bar over the images of all trainings; those of earlier runs do not count in its rate."""
    options = {"unit": "img", "unit_scale": True, "desc": "sweep"}
    total = sum(run.images for run in sweep.runs)
    return progress_bar(total=total, initial=sum(map(images_seen, sweep.runs)), **options)


def show_progress(bar: tqdm, sweep: Sweep, *, waiting: Collection[str] = (), queue: Queue | None = None) -> None:
    """Bring the bar up to date; what failed for good drops out of its total.

    waiting: names of trainings that will be started (again).
    """
    states = {run.name: state(run, queue) for run in sweep.runs}
    lost = [run for run in sweep.runs if states[run.name] == "failed" and run.name not in waiting]
    bar.total = sum(run.images for run in sweep.runs) - sum(run.images - images_seen(run) for run in lost)
    counts = Counter(states.values())
    bar.set_postfix_str(", ".join(f"{counts[name]} {name}" for name in STATES if counts[name]), refresh=False)
    bar.update(sum(map(images_seen, sweep.runs)) - bar.n)
