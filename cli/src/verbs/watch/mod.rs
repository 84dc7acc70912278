//! `pgquorum watch`: monitors, nodes and events on one screen that keeps itself up to date.

mod changes;
mod columns;
mod picture;
mod screen;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::args::show::Watch;
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::progress;
use picture::Picture;
use screen::Position;

/// The screen is drawn at least this often, and a key is answered at once.
const DRAW_EVERY: Duration = Duration::from_millis(200);

pub fn run(args: &Watch) -> Result<(), CliError> {
    if args.json {
        return changes::print(args);
    }
    if !std::io::stdout().is_terminal() {
        return Err(CliError::new(Status::BadArguments, "watch draws on a terminal, and this is none")
            .hint("`pgquorum watch --json` prints a line for each change; `pgquorum show state` prints once"));
    }
    let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
    let group = operator.group(args.group.group);
    progress::screen(true);
    let quit = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Mutex::new(Picture::empty(&operator.formation, group)));
    let looker = std::thread::spawn({
        let (quit, shared) = (quit.clone(), shared.clone());
        move || picture::keep_up_to_date(&operator, group, &shared, &quit)
    });
    let drawn = draw(&shared, &quit);
    ratatui::restore();
    progress::screen(false);
    quit.store(true, Ordering::SeqCst);
    // It may be waiting for a monitor that is dead: nobody waits for it in turn.
    if looker.is_finished() {
        let _ = looker.join();
    }
    drawn.map_err(|error| CliError::new(Status::Internal, format!("the terminal: {error}")))
}

fn draw(shared: &Mutex<Picture>, quit: &AtomicBool) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let mut position = Position::default();
    while !quit.load(Ordering::SeqCst) {
        let picture = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone().aged();
        terminal.draw(|frame| screen::render(frame, &picture, &mut position))?;
        if event::poll(DRAW_EVERY)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                KeyCode::Up => position.up(1),
                KeyCode::Down => position.down(1),
                KeyCode::PageUp => position.up(10),
                KeyCode::PageDown => position.down(10),
                KeyCode::Left => position.left(),
                KeyCode::Right => position.right(),
                KeyCode::Home => position = Position::default(),
                _ => {}
            }
        }
    }
    Ok(())
}
