"""One image: decode, rescale, crop, flip, colour shift.  Arrays in, arrays out; nothing of the model."""
