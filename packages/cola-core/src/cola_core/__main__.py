"""``python -m cola_core`` is ``cola-core``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
