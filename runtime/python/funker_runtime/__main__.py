import gc

# What is imported from here on stays: looking for garbage in it takes a tenth of the start.
# It is on again before the handler is loaded.
gc.disable()

from funker_runtime import main  # noqa: E402

main()
