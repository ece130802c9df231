"""A Wireshark dissector for the extension: oko.lua, generated from the declarations of `ofext`.

generate      the generator: python -m ofext.wireshark.generate
engine.lua    the part of the dissector that is written by hand
oko.lua       what Wireshark loads: put it into a directory of plugins, or use -X lua_script:oko.lua
"""
