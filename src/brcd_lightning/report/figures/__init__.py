"""The figures of a report. Every module is searched for functions declared by `catalog.figure`."""
