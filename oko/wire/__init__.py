"""Between the values of `oko.flow` and the messages of `ofext`, both ways. What cannot be said is refused in
OpenFlow's words.
"""
