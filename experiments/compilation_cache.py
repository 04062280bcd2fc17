"""The flag of what compiles large programs: where they are kept for the next run."""

from absl import flags

from vgg_jax.compilation import use_persistent_cache

NO_CACHE = "none"

COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder that keeps compiled programs for the next run; what lies there is executed, so keep it to yourself. If not "
    f"given, JAX_COMPILATION_CACHE_DIR, else ~/.cache/vgg_jax/xla; {NO_CACHE} keeps nothing.",
)


def keep_programs() -> None:
    """Do what the flag says; to be called before anything is compiled."""
    if COMPILATION_CACHE.value != NO_CACHE:
        use_persistent_cache(COMPILATION_CACHE.value)
