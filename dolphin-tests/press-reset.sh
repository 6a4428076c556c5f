#!/bin/bash
# Presses the console's reset button in Dolphin and expects boot.dol to end well.
#
# Only the Dolphin with windows has that button, in a menu, so this takes an X server and fingers: Debian's xvfb and xdotool. That is why
# it is no part of the test command. Run it from the project's folder after `cargo xtask test --layer images` and one run in Dolphin.
set -euo pipefail

headless=${WIISTICK_DOLPHIN:-target/tools/dolphin-emu-nogui}
[ -x "$headless" ] || { echo "no Dolphin: cargo xtask run --emulator dolphin makes $headless"; exit 1; }
for program in Xvfb xdotool; do
    command -v $program >/dev/null || { echo "no $program: apt-get install xvfb xdotool"; exit 1; }
done

folder=$(mktemp -d)
trap '{ kill $(jobs -p); wait; rm -rf "$folder"; } 2>/dev/null' EXIT
mkdir -p "$folder/Config"
cp target/dol/boot.dol "$folder/boot.dol"
printf '%s\n' '[Analytics]' 'PermissionAsked = True' '[AutoUpdate]' 'UpdateTrack =' '[Interface]' 'ConfirmStop = False' \
    'UsePanicHandlers = False' '[Core]' 'WiiSDCard = False' 'SlotA = 255' '[DSP]' 'Backend = No Audio Output' \
    >"$folder/Config/Dolphin.ini"
printf '%s\n' '[Options]' 'Verbosity = 4' 'WriteToConsole = True' '[Logs]' 'IOS = True' >"$folder/Config/Logger.ini"

# The wrapper of the private Debian root serves the program next to its own as well, but for the windows' plug-ins.
windowed=$folder/dolphin-emu
sed 's/dolphin-emu-nogui/dolphin-emu/' "$headless" >"$windowed"
chmod +x "$windowed"
QT_PLUGIN_PATH=$(sed -n 's/^export QEMU_MODULE_DIR=//p' "$headless" | tr -d "\"'")/../qt6/plugins
export QT_PLUGIN_PATH HOME=$folder

exec 3<>"$folder/display"
Xvfb -displayfd 3 -screen 0 1024x768x24 2>/dev/null &
for _ in $(seq 100); do
    display=$(cat "$folder/display")
    [ -n "$display" ] && break
    sleep 0.1
done
export DISPLAY=:$display
"$windowed" -u "$folder" -v Null -e "$folder/boot.dol" >"$folder/output" 2>&1 &

# Waits half a minute for a command to succeed.
waits() {
    for _ in $(seq 150); do
        "$@" && return
        sleep 0.2
    done
    echo "in vain: $*"
    tail -5 "$folder/output"
    exit 1
}
windows() { xdotool search --onlyvisible --name "$1" | grep .; }
# The window with the picture, which goes when the program has returned through the loader's stub.
shows() { windows '[|] HLE$' >/dev/null; }
ended() { ! shows; }
looks_for_sticks() { grep -aq 'Opening /dev/usb/ven' "$folder/output"; }

waits looks_for_sticks
sleep 3
shows || { echo "it ends without the button"; exit 1; }
xdotool windowfocus "$(windows '^Dolphin [^|]*$' | head -1)" key alt+e
sleep 1
xdotool key r
waits ended
echo "The reset button ends the program."
