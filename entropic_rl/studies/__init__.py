"""The verb ``study``: one setting of training varied over seeds, as one batch, and what it does.

A study is a module that describes it (:class:`~entropic_rl.studies.study.Study`) and a line in ``catalogue.py``.
"""
