//! Names of every kind, and directories that grow; the job's tests write files.

use super::*;
use crate::disk::{LINE, MAX_LINES};
use crate::partition::Area;
use crate::testing::{Format, RamStick, fat_volume};
use crate::volume::Volume;
use embassy_futures::block_on;
use fatfs::FatType;
use std::io::{Cursor, Read};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const FAT16: Format = Format {
    fat: FatType::Fat16,
    sector: 512,
    cluster: 512,
    bytes: 8 << 20,
};
const FAT32: Format = Format {
    fat: FatType::Fat32,
    bytes: 40 << 20,
    ..FAT16
};

/// Lets `act` write to a volume; returns what it returned and the image.
fn write<T>(
    image: Vec<u8>,
    act: impl AsyncFnOnce(&mut Fat, &Disk<'_, &mut RamStick>, &mut Tools<'_>) -> T,
) -> (T, Vec<u8>) {
    let mut stick = RamStick::new(512, image);
    let (mut cache, mut buffer) = (vec![0; LINE * MAX_LINES], vec![0; 8192]);
    let mut name = Name::new();
    let result = block_on(async {
        let disk = Disk::for_writing(&mut stick, &mut cache).unwrap();
        let area = Area {
            first: 0,
            blocks: disk.blocks(),
        };
        let Volume::Fat(mut fat) = Volume::mount(&disk, area).await.unwrap().unwrap();
        fat.begin_writing(&disk).await.unwrap();
        let mut tools = Tools {
            buffer: &mut buffer,
            name: &mut name,
            stamp: Stamp::from_local_seconds(1_767_225_600),
        };
        let result = act(&mut fat, &disk, &mut tools).await;
        fat.finish_writing(&disk).await.unwrap();
        let mut found = vec![];
        fat.check(&disk, &mut vec![0; 16 * 1024], &mut |_, path, what| {
            found.push(std::format!("{path:?}: {what}"))
        })
        .await
        .unwrap();
        assert_eq!(found, Vec::<String>::new());
        result
    });
    (result, stick.data)
}

fn names(image: Vec<u8>, path: &str) -> Vec<String> {
    let volume = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
    let root = volume.root_dir();
    let directory = match path {
        "" => root,
        path => root.open_dir(path).unwrap(),
    };
    let names = directory.iter().map(|entry| entry.unwrap().file_name());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn names_of_every_kind_are_as_they_were_given() {
    let wanted = [
        "UPPER.TXT",
        "lower.txt",
        "Mixed.Txt",
        "a long name with spaces and a.few.dots",
        "Größe 日本語 ☺.bin",
        "another long name 1",
        "another long name 2",
        "another long name 3",
        "another long name 4",
        "another long name 5",
        "another long name 6",
    ];
    for format in [FAT16, FAT32] {
        let (_, image) = write(fat_volume(format, &[]), async |fat, disk, tools| {
            let root = fat.root();
            for name in wanted {
                let mut contents = |_: u64, memory: &mut [u8]| memory.fill(b'x');
                fat.write_file(disk, &root, name, 3, tools, &mut contents)
                    .await
                    .unwrap();
            }
        });
        assert_eq!(names(image.clone(), ""), wanted);
        let volume = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
        let root = volume.root_dir();
        for name in wanted {
            let mut text = String::new();
            let mut file = root.open_file(name).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "xxx");
        }
        let entry = root.iter().next().unwrap().unwrap();
        assert_eq!(entry.modified().date.year, 2026);
    }
}

#[test]
fn names_that_fat_cannot_hold_are_refused() {
    for name in ["", ".", "..", "a/b", "a:b", "a\u{1}", "dot.", "space ", "?"] {
        let (result, _) = write(fat_volume(FAT16, &[]), async |fat, disk, tools| {
            let root = fat.root();
            fat.write_file(disk, &root, name, 0, tools, &mut |_, _| {})
                .await
        });
        assert_eq!(result, Err(BAD_NAME), "{name}");
    }
}

#[test]
fn a_name_in_other_case_is_the_same_file() {
    let tree = [("/Some File.bin", vec![1; 3000])];
    let (_, image) = write(fat_volume(FAT16, &tree), async |fat, disk, tools| {
        let root = fat.root();
        fat.write_file(disk, &root, "some file.BIN", 0, tools, &mut |_, _| {})
            .await
            .unwrap();
    });
    assert_eq!(names(image, ""), ["some file.BIN"]);
}

#[test]
fn directories_grow_and_shrink_cluster_by_cluster() {
    let many: Vec<_> = (0..200)
        .map(|i| std::format!("file of a long name number {i}"))
        .collect();
    for format in [FAT16, FAT32] {
        let ((), image) = write(fat_volume(format, &[]), async |fat, disk, tools| {
            let root = fat.root();
            let (directory, made) = fat
                .make_directory(disk, &root, "Many files", tools)
                .await
                .unwrap();
            assert!(made);
            for name in &many {
                fat.write_file(disk, &directory, name, 0, tools, &mut |_, _| {})
                    .await
                    .unwrap();
            }
            let again = fat
                .make_directory(disk, &root, "MANY FILES", tools)
                .await
                .unwrap();
            assert!(again.0.is_same(&directory) && !again.1);
            let refused = fat
                .remove_named(disk, &root, "Many files", tools.name)
                .await;
            assert_eq!(
                refused,
                Err(VolumeError::Refused("the directory is not empty"))
            );
        });
        assert_eq!(names(image.clone(), "Many files"), many);
        let ((), image) = write(image, async |fat, disk, tools| {
            let root = fat.root();
            let (directory, _) = fat
                .make_directory(disk, &root, "Many files", tools)
                .await
                .unwrap();
            for name in &many {
                fat.remove_named(disk, &directory, name, tools.name)
                    .await
                    .unwrap();
            }
            fat.remove_named(disk, &root, "Many files", tools.name)
                .await
                .unwrap();
        });
        assert_eq!(names(image, ""), Vec::<String>::new());
    }
}

#[test]
fn a_root_directory_that_is_full_is_an_error() {
    let (result, image) = write(fat_volume(FAT16, &[]), async |fat, disk, tools| {
        let root = fat.root();
        for i in 0.. {
            let name = i.to_string();
            fat.write_file(disk, &root, &name, 0, tools, &mut |_, _| {})
                .await?;
        }
        Ok(())
    });
    assert_eq!(result, Err(VolumeError::Refused("the directory is full")));
    // 512 slots, one of which is the label's.
    assert_eq!(names(image, "").len(), 511);
}
