"""Paint one picture in the style of another (Gatys, Ecker and Bethge 2016).

python experiments/style_transfer.py --content=PHOTO.jpg --style=PAINTING.jpg --weights=FILE --output=OUT.jpg

Adam moves the pixels of the photograph until the activations of conv4_2 are still the photograph's, while the Gram
matrices of conv1_1 to conv5_1 (which channels are active together, wherever) are the painting's. Every term is relative
to its target's own size, so that --style_weight means the same for any net. Writes OUT.jpg, and OUT_compared.jpg with
the photograph, the painting and the result side by side.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from compilation_cache import keep_programs
from jax import Array
from PIL import Image

from command_line import run
from vgg_jax import VGG, InputError, features
from vgg_jax.compilation import training_options
from vgg_jax.images.decode import decode_rgb
from vgg_jax.images.rescale import rescale
from vgg_jax.progress import progress_bar
from vgg_jax.weights import load_weights

CONTENT = flags.DEFINE_string("content", None, "The photograph.", required=True)
STYLE = flags.DEFINE_string("style", None, "The picture whose style is taken.", required=True)
WEIGHTS = flags.DEFINE_string("weights", None, "A file of weights, or WORKDIR/STAGE.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "The picture to write, *.jpg or *.png.", required=True)
SIZE = flags.DEFINE_integer("size", 256, "Smallest side of both pictures.", lower_bound=32)
STEPS = flags.DEFINE_integer("steps", 200, "Steps of Adam.", lower_bound=1)
RATE = flags.DEFINE_float("learning_rate", 4.0, "About how far a step moves a pixel, of 255.", lower_bound=0)
STYLE_WEIGHT = flags.DEFINE_float("style_weight", 10.0, "Weight of the style; that of the content is 1.", lower_bound=0)

CONTENT_LAYER = "conv4_2"
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


def gram(maps: Array) -> Array:
    """Products of channels [C, C], averaged over the positions of maps [1, h, w, C]."""
    return jnp.einsum("nhwc,nhwd->cd", maps, maps) / (maps.shape[1] * maps.shape[2])


def relative_error(x: Array, target: Array) -> Array:
    """Squared distance from a target, as a part of the target's own square."""
    return jnp.sum((x - target) ** 2) / jnp.sum(target**2)


def transfer_style(model: VGG, params: Any, photograph: np.ndarray, painting: np.ndarray) -> np.ndarray:
    """The photograph [H, W, 3] in the style of the painting, uint8."""
    content = features(model, params, photograph[None], (CONTENT_LAYER,))[CONTENT_LAYER]
    style = {name: gram(maps) for name, maps in features(model, params, painting[None], STYLE_LAYERS).items()}
    optimizer = optax.adam(RATE.value)

    def loss(picture: Array, params: Any) -> Array:
        maps = features(model, params, picture[None], (CONTENT_LAYER, *STYLE_LAYERS))
        style_loss = sum(relative_error(gram(maps[name]), style[name]) for name in STYLE_LAYERS) / len(STYLE_LAYERS)
        return relative_error(maps[CONTENT_LAYER], content) + STYLE_WEIGHT.value * style_loss

    def step(picture: Array, state: Any, params: Any) -> tuple[Array, Any, Array]:
        value, gradient = jax.value_and_grad(loss)(picture, params)
        updates, state = optimizer.update(gradient, state)
        return jnp.clip(picture + updates, 0, 255), state, value

    step = jax.jit(step, compiler_options=training_options())
    picture = jnp.asarray(photograph, jnp.float32)
    state = optimizer.init(picture)
    with progress_bar(total=STEPS.value, unit="step") as bar:
        for _ in range(STEPS.value):
            picture, state, value = step(picture, state, params)
            bar.set_postfix_str(f"loss {value:.4f}", refresh=False)
            bar.update()
    return np.asarray(jnp.round(picture), np.uint8)


def main(_: object) -> None:
    """Transfer the style and write the pictures."""
    keep_programs()
    output = Path(OUTPUT.value)
    if output.suffix.lower() not in (".jpg", ".png"):
        raise InputError(f"--output={output} is no picture: name it *.jpg or *.png")
    output.parent.mkdir(parents=True, exist_ok=True)
    photograph, painting = (
        rescale(decode_rgb(Path(path).read_bytes(), path), SIZE.value) for path in (CONTENT.value, STYLE.value)
    )
    model, params = load_weights(WEIGHTS.value)
    result = transfer_style(model, params, photograph, painting)
    height = len(result)
    shown = Image.fromarray(painting).resize((round(painting.shape[1] * height / len(painting)), height))
    compared = output.with_name(f"{output.stem}_compared{output.suffix}")
    Image.fromarray(result).save(output)
    Image.fromarray(np.concatenate([photograph, np.asarray(shown), result], axis=1)).save(compared)
    print(f"{output} and {compared} are written")


if __name__ == "__main__":
    run(main)
