"""The commands of `bayesgen`, one file each."""

from bayesgen.commands.certify import certify
from bayesgen.commands.corruption import corruption
from bayesgen.commands.dkl import dkl
from bayesgen.commands.info import info
from bayesgen.commands.laplace import laplace
from bayesgen.commands.reproduce import reproduce
from bayesgen.commands.select import select

# As `bayesgen --help` lists them.
COMMANDS = (corruption, certify, select, laplace, dkl, reproduce, info)

__all__ = ["COMMANDS"]
