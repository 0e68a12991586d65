"""Command line of ``active-learning``: two uses, told apart by ``--pool``."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["active_learning"]

_HELP = """\
usage: {prog} --pool FILE [--labels FILE] [--query N] [--ask | --out FILE] [--answers FILE] ...
       {prog} --data NAME --strategies NAME ... --out DIR ...
       {prog} --resume DIR

Which rows are worth a label? Two uses:

  --pool FILE    label a table of your own: asks for the rows that a classifier would learn most from, at the
                 terminal or by a spreadsheet, keeps every answer, and says how good the classifier has become
  --data NAME    compare ways of asking on data whose labels are all known
  --resume DIR   go on with a comparison that was stopped or killed

Settings of each:

  {prog} --pool --help
  {prog} --data --help

example: {prog} --pool my.parquet --labels labels.csv --query 20 --ask
"""


def active_learning(prog: str, arguments: Sequence[str]) -> int:
    """Label a pool of the user's own (``--pool``), or compare query strategies on labelled data."""
    flags = {word.partition("=")[0] for word in arguments}
    wants_help = bool(flags & {"-h", "--help"})
    if "--pool" in flags:
        from entropic_rl.active.labelling_cli import label_pool

        return label_pool(prog, ["--help"] if wants_help else arguments)
    if not arguments or (wants_help and "--data" not in flags):
        print(_HELP.format(prog=prog), end="")
        return 0
    from entropic_rl.active.comparison_cli import compare_strategies

    return compare_strategies(prog, ["--help"] if wants_help else arguments)
