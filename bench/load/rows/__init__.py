"""What people do: each file has rows of one kind, each row a class with its set-up apart from what is measured.

`base.Row` says when what is called; `bench/load/catalogue.py` lists them all.
"""
