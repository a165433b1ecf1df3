"""The commands of `bayesgen`, one file each; `bayesgen.commands.app` lists them."""
