"""The release: a statement that binds one verified file to one instance, and the proof that the instance is gone."""
