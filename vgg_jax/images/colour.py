"""The random RGB colour shift of sec. 3.1 (after Krizhevsky et al.), made on the device."""

import jax
import jax.numpy as jnp
import numpy as np

# ImageNet's published values.  Eigen-values and -vectors are those of the covariance of RGB scaled to [0, 1].
IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = (  # rows R, G, B; columns p_1, p_2, p_3
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def colour_shift(
    images: jax.Array | np.ndarray,
    key: jax.Array,
    example_index: jax.Array | np.ndarray,
    eigenvalues: jax.Array | np.ndarray | tuple,
    eigenvectors: jax.Array | np.ndarray | tuple,
    std: float = 0.1,
) -> jax.Array:
    """Add 255 * sum_i p_i alpha_i lambda_i to every pixel of an image, alpha_i ~ N(0, std**2) drawn once an image.

    images [N, H, W, 3], RGB in 0..255; example_index int32 [N]; eigenvalues [3] and eigenvectors [3, 3] (columns p_i)
    of the covariance with RGB in [0, 1].  Returns float32 [N, H, W, 3], not clipped.  Image n's draw depends on `key`
    and example_index[n] alone: the result is the same, bit for bit, however a batch is split.  Sec. 3.1.
    """
    eigenvalues = jnp.asarray(eigenvalues, jnp.float32)
    eigenvectors = jnp.asarray(eigenvectors, jnp.float32)

    def draw(index: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, index), (3,), jnp.float32)

    # Barriers and an explicit sum, because XLA otherwise reorders the products by N, which shows in the last bit.
    normal = jax.lax.optimization_barrier(jax.vmap(draw)(jnp.asarray(example_index)))  # [N, 3]
    weights = jax.lax.optimization_barrier(normal * (255.0 * std * eigenvalues[None, :]))  # [N, 3]
    terms = [weights[:, i, None] * eigenvectors[None, :, i] for i in range(3)]
    shift = terms[0] + terms[1] + terms[2]  # [N, 3]
    return jnp.asarray(images, jnp.float32) + shift[:, None, None, :]
