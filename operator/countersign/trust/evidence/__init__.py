"""Facts about images, the questions that they answer, and what a policy's rules make of them."""
