"""The parts of the report, one file each: TITLE, ASKED and ``run(section)``."""
