"""``cpcdr train-street`` from a checkout; ``--help`` describes it."""

from cpcdr.commands import run

if __name__ == "__main__":
    run("train_street")
