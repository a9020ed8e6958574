"""The embedded PostgreSQL of a checkout: ENGINE "controlplane.devdb", for development and tests only.

A database entry that uses it carries one key more than Django's own, the folder that holds everything about the server:

    {"ENGINE": "controlplane.devdb", "NAME": "controlplane", "USER": "controlplane",
     "DEVDB_DIR": "/path/to/.devdb", "HOST": controlplane.devdb.server.socket_dir("/path/to/.devdb")}

`errors` says what can go wrong, `account` who runs the server and from which binaries, `processes` which server is
alive, `cluster` what is in the data directory, `server` starts, finds and stops it, `base` is the Django backend on
top.
"""
