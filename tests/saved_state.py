"""What a run left on disk, byte by byte, to compare with another run's."""

import jax
import numpy as np
from orbax.checkpoint import StandardCheckpointer

from vgg_jax import checkpoint


def latest_checkpoint(workdir, name="s256"):
    """Every byte of a stage's latest checkpoint that the training goes on from, and its record."""
    step = checkpoint.find_step(workdir / name / "checkpoints", "latest")
    info = checkpoint.read_info(workdir / name / "checkpoints", step)
    with StandardCheckpointer() as reader:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        arrays = []
        for item in ("params", "optimizer"):
            folder = (workdir / name / "checkpoints" / str(step) / item).absolute()
            target = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here),
                reader.metadata(folder).item_metadata.tree,
            )
            arrays.append(reader.restore(folder, target))
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path): np.asarray(a).tobytes() for path, a in leaves}, info
