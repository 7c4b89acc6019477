"""Has no hooks at all."""
