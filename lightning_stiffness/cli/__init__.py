"""The command ``lightning-stiffness``: look at runs, compare them, report on them, measure checkpoints.

``main`` reads the command line and hands over to ``show``, ``compare``, ``report`` or ``measure``; each of them
answers with what stands in ``output`` (terminal and JSON) and takes its runs from ``finding``.
"""
