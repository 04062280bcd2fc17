"""A training with torch and torchvision as their users write it; prints a line when a step is done.

python experiments/benchmarks/peer_torch_loop.py --data_path=FOLDER --steps=N [--batch=8] [--workers=2] [--amp]

ImageFolder, DataLoader in worker processes, smallest side 256 antialiased, random crop and flip, torchvision's net.
"""

import comparison
from absl import app, flags

DATA_PATH = flags.DEFINE_string("data_path", None, "Folder of class folders.", required=True)
BATCH = flags.DEFINE_integer("batch", 8, "Images a step.", 1)
STEPS = flags.DEFINE_integer("steps", 3, "Steps.", 1)
WORKERS = flags.DEFINE_integer("workers", 2, "Processes that decode.", 0)
AMP = flags.DEFINE_bool("amp", False, "In bfloat16 where torch chooses.")


def main(_: object) -> None:
    """Train."""
    import torch
    from peer_torch import torch_step
    from torchvision import datasets, transforms

    model = comparison.model_of_flags()
    views = [
        transforms.Resize(round(model.crop_size * 8 / 7)),
        transforms.RandomCrop(model.crop_size),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
    ]
    images = datasets.ImageFolder(DATA_PATH.value, transforms.Compose(views))
    loader = torch.utils.data.DataLoader(
        images, BATCH.value, shuffle=True, drop_last=True, num_workers=WORKERS.value, pin_memory=comparison.on_gpu()
    )
    step = torch_step(model, amp=AMP.value)
    done = 0
    while done < STEPS.value:
        for batch, labels in loader:
            step(batch, labels)
            done += 1
            print(done, flush=True)
            if done == STEPS.value:
                break


if __name__ == "__main__":
    app.run(main)
