"""What `selftrain new` writes: a plug-in of each kind that works as it stands, and its test; NAME stands for its name.

They are read as text and import nothing but the standard library and selftrain: sorted imports stay sorted wherever
they are written to.
"""
