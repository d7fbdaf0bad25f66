"""The mesos containerizer: native containers through a launcher and a chain of isolators."""
