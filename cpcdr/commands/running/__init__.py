"""The parts of ``cpcdr run``: its stages, its plan and its report."""
