"""VGG (Simonyan & Zisserman, 2014) in JAX and Flax: the nets, their training chain and their exact evaluation."""

from vgg_jax._version import __version__
from vgg_jax.architectures import ARCHITECTURES
from vgg_jax.errors import InputError
from vgg_jax.features import features
from vgg_jax.model import VGG

__all__ = ["ARCHITECTURES", "VGG", "InputError", "__version__", "features"]
