"""The command line and the client that an application imports."""
