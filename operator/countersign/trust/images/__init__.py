"""The names of images: where they stand in a pod, what they mean, how they are pinned."""
