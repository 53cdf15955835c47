package floor

block contains "x" if input.settings.mode == "x"
