"""``cpcdr name`` from a checkout; ``--help`` describes it."""

from cpcdr.commands import run_command

if __name__ == "__main__":
    run_command("name")
