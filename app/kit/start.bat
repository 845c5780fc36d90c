@echo off
rem Start handcnn without a network: start.bat draws, start.bat train.py --epochs 3 trains.
cd /d "%~dp0"
if exist .venv\ready goto ready
py -3.13 -c "" 2>nul && set "version=3.13"
if not defined version py -3.12 -c "" 2>nul && set "version=3.12"
if not defined version goto missing
echo Setting handcnn up, once:
py -%version% -m venv --clear .venv || goto failed
.venv\Scripts\python -m pip --disable-pip-version-check install --quiet --no-index --find-links wheels --requirement requirements.txt || goto failed
echo.> .venv\ready
:ready
set "program=%*"
if not defined program set "program=draw.py"
.venv\Scripts\python %program%
if errorlevel 1 pause
exit /b
:missing
echo Python 3.12 or 3.13 is needed; see INSTRUCTIONS.txt
:failed
pause
exit /b 1
